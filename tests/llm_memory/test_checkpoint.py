"""A model folder from elsewhere loads as transformers loads it, or is refused clearly."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm_memory.checkpoint import LlamaConfig
from llm_memory.model import load_model
from llm_memory.tokenizer import load_tokenizer
from tests.model_folders import SHAPES, change_config, random_model, write_folder

torch.set_num_threads(1)


@pytest.fixture
def ids():
    return torch.randint(0, 61, (2, 9), generator=torch.Generator().manual_seed(3))


def equals_transformers(folder, ids):
    """Load a folder both ways, compare, and return our model."""
    from transformers import AutoModelForCausalLM

    model, _ = load_model(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(model(ids), theirs(ids).logits, atol=1e-4)
    return model


def test_loads_a_folder_with_its_own_tokenizer(tmp_path, ids):
    model = random_model(**SHAPES["Qwen2's biases"])
    loaded, tokenizer = load_model(write_folder(tmp_path, model))
    assert torch.equal(loaded(ids), model(ids))
    assert loaded.config == model.config
    assert tokenizer.tokens("the cat") == ["the", "c", "a", "t"]
    assert tokenizer.decode(tokenizer.encode("the"))[:3] == "the"
    with pytest.raises(ValueError, match="empty"):
        tokenizer.encode("")


def test_loads_shards_and_an_old_style_config(tmp_path, ids):
    model = random_model(**SHAPES["groups of three"])
    write_folder(tmp_path, model)
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    names = sorted(tensors)
    (tmp_path / "model.safetensors").unlink()
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(load_model(tmp_path)[0](ids), model(ids))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.safetensors"):
        load_model(tmp_path)


def test_rope_theta_is_read_from_both_places_where_it_stands():
    raw = random_model(**SHAPES["groups of three"]).config.to_hf()
    raw["rope_theta"] = 7_000.0
    assert LlamaConfig.from_hf(raw).rope_theta == 7_000.0
    del raw["rope_theta"]
    newer = raw | {"rope_parameters": {"rope_type": "default", "rope_theta": 9_000.0}}
    assert LlamaConfig.from_hf(newer).rope_theta == 9_000.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "llama3.* lacks low_freq",
        ),
        ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope'.* has default, linear"),
        ({"rope_scaling": {"type": "linear", "factor": -2}}, "factor must be above 0, not -2"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor must be above 0, not '2'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "same for all layers"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding window"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"hidden_size": None}, "hidden_size"),
        ({"vocab_size": 60}, "embed_tokens"),
    ],
)
def test_refuses_what_it_would_get_wrong(change, message, tmp_path):
    change_config(write_folder(tmp_path, random_model(**SHAPES["groups of three"])), **change)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_and_broken_files_are_named(name, tmp_path):
    folder = write_folder(tmp_path / "model", random_model(**SHAPES["groups of three"]))
    (folder / name).write_bytes((folder / name).read_bytes()[:20])
    with pytest.raises(ValueError, match=name):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_model(folder)


def test_missing_tensors_are_named(tmp_path):
    model = random_model(**SHAPES["groups of three"])
    write_folder(tmp_path, model)
    tensors = {k: v for k, v in model.state_dict().items() if "layers.1.mlp.up" not in k}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj"):
        load_model(tmp_path)


@pytest.mark.slow
def test_qwens_sliding_window_that_no_layer_uses_is_left_alone(tmp_path, ids):
    write_folder(tmp_path, random_model(**SHAPES["Qwen2's biases"]))
    change_config(tmp_path, use_sliding_window=False, sliding_window=4, max_window_layers=1)
    equals_transformers(tmp_path, ids)
    change_config(tmp_path, use_sliding_window=True, max_window_layers=2)  # of 2 layers
    equals_transformers(tmp_path, ids)
    change_config(tmp_path, max_window_layers=1)
    with pytest.raises(ValueError, match="sliding window"):
        load_model(tmp_path)


@pytest.mark.slow
def test_llama_has_no_sliding_window_whatever_its_config_says(tmp_path, ids):
    write_folder(tmp_path, random_model(**SHAPES["groups of three"]))
    change_config(tmp_path, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    equals_transformers(tmp_path, ids)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one shared head, untied", "Qwen2's biases"])
def test_a_sparse_config_means_what_transformers_takes_it_to_mean(name, tmp_path, ids):
    model = random_model(**SHAPES[name] | {"n_kv_heads": 4, "head_dim": 6, "norm_eps": 1e-6})
    write_folder(tmp_path, model)
    gone = ["head_dim", "rms_norm_eps", "attention_bias", "mlp_bias", "hidden_act", "rope_theta"]
    change_config(tmp_path, **dict.fromkeys(gone))
    if name == "one shared head, untied":
        change_config(tmp_path, num_key_value_heads=None, tie_word_embeddings=None)
    change_config(tmp_path, eos_token_id=[3, 5], bos_token_id=1)
    assert equals_transformers(tmp_path, ids).config == model.config


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_computed_with_in_full(dtype, tmp_path, ids):
    write_folder(tmp_path, random_model(**SHAPES["groups of three"]))
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file)
    change_config(tmp_path, torch_dtype=str(dtype).removeprefix("torch."))
    model = equals_transformers(tmp_path, ids)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("stands", ["as both", "only as the head", "as two that differ"])
def test_a_tied_table_is_found_wherever_it_stands(stands, tmp_path, ids):
    write_folder(tmp_path, random_model(**SHAPES["groups of three"]))
    file, name = tmp_path / "model.safetensors", "model.embed_tokens.weight"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors[name].clone()
    if stands == "only as the head":
        del tensors[name]
    if stands == "as two that differ":
        tensors["lm_head.weight"] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    assert equals_transformers(tmp_path, ids).config.tied == (stands != "as two that differ")


@pytest.mark.slow
def test_a_broken_index_and_one_beside_the_whole_file(tmp_path, ids):
    write_folder(tmp_path, random_model(**SHAPES["groups of three"]))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "gone.safetensors"}}))
    equals_transformers(tmp_path, ids)
    (tmp_path / "model.safetensors").unlink()
    for broken in ({}, {"weight_map": []}, []):
        index.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
            load_model(tmp_path)


@pytest.mark.slow
def test_byte_level_bpe_reads_as_in_transformers(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<bos>", "<end>"], initial_alphabet=alphabet
    )
    inner.train_from_iterator(["the student finished the exam, they felt relieved"] * 3, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", inner.token_to_id("<bos>"))]
    )
    # As some who fine-tune leave it in the file: transformers takes no notice.
    inner.enable_truncation(6)
    inner.enable_padding(length=40)
    inner.save(str(tmp_path / "tokenizer.json"))

    ours = load_tokenizer(tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in ("The student finished the exam.", "naïve  東京 🙂\n\ttab", " ", "a<end>b"):
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"]
        assert ours.decode(ids) == "<bos>" + text
    tokens = ours.tokens("the exam")
    assert tokens[0] == "<bos>" and "".join(tokens[1:]) == "the exam"
