"""Generation: equal to transformers, the same for the same seed, whole characters, bounded windows, damage refused."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import storyteller
from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, HubError, ModelError, RunError, StorytellerError, UsageError
from storyteller.inference.engine import engine_from_memory, open_model
from storyteller.inference.generate import Decoding, Detokenizer, Engine, StopStrings
from tests.conftest import SHARED
from tests.support import tiny_models
from tests.support.hub_loopback import LoopbackHub

GREEDY = SamplingParams(temperature=0, max_tokens=60)
PACKAGE_PARENT = str(Path(storyteller.__file__).parents[1])


def script_engine(tmp_path: Path, script: bytes | str, context: int = 64) -> Any:
    return open_model(str(tiny_models.script_folder(tmp_path / "script", script, context)))


def transformers_greedy(folder: Path, begin: list[int], tokens: int) -> list[int]:
    """What transformers' own generate tells after `begin`."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    told = model.generate(
        torch.tensor([begin]), do_sample=False, max_new_tokens=tokens, eos_token_id=-1, pad_token_id=0
    )
    return [int(token) for token in told[0, len(begin) :]]


# --- equal to transformers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_greedy_gpt2_equals_transformers(tmp_path: Path, tied: bool) -> None:
    weights = tiny_models.random_weights(context=96)
    if not tied:
        weights["lm_head.weight"] = weights["transformer.wte.weight"][::-1].copy()
    settings = tiny_models.config(32, 2, 4, 96, tie_word_embeddings=tied, eos_token_id=None, layer_norm_epsilon=1e-3)
    folder = tiny_models.write_folder(tmp_path / "model", weights, settings)
    expected = transformers_greedy(folder, [tiny_models.END_ID, *b"Once"], 60)
    voice = open_model(str(folder))._backend.start(GREEDY)
    told = list(chain.from_iterable(voice.tokens([tiny_models.END_ID, *b"Once"], 60)))
    # The beginning ends a story here, where transformers was told to go on.
    assert told == expected[: len(told)]
    assert len(told) == 60 or told[-1] == tiny_models.END_ID


@pytest.mark.skipif(not (SHARED / "stories260K").is_dir(), reason="needs the real model beside the project")
def test_greedy_llama_equals_transformers() -> None:
    from tokenizers import Tokenizer

    folder = SHARED / "stories260K"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompt = "Once upon a time, there was a little"
    begin = [1, *tokenizer.encode(prompt, add_special_tokens=False).ids]
    expected = transformers_greedy(folder, begin, 60)
    story = open_model(str(folder)).batch([prompt], GREEDY)[0]
    assert story.tokens == 60
    assert prompt + story.text == tokenizer.decode(begin[1:] + expected)


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision_weights_tell_what_their_values_tell_in_full(tmp_path: Path, kind: str) -> None:
    weights = {name: _rounded(values, kind) for name, values in tiny_models.random_weights().items()}
    settings = tiny_models.config(32, 2, 4, 64)
    full = tiny_models.write_folder(tmp_path / "full", weights, settings)
    half = tiny_models.write_folder(tmp_path / "half", weights, settings)
    _write_safetensors(half / "model.safetensors", {name: (kind, values) for name, values in weights.items()})
    told = [open_model(str(folder)).batch(["Tom"], GREEDY)[0].text for folder in (full, half)]
    assert told[0] == told[1]
    assert told[0]


def _rounded(values: Any, kind: str) -> Any:
    if kind == "F16":
        return values.astype(np.float16).astype(np.float32)
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)


def _write_safetensors(path: Path, tensors: dict[str, tuple[str, Any]]) -> None:
    header, data = {}, b""
    for name, (kind, values) in tensors.items():
        bits = (values.view(np.uint32) >> 16).astype(np.uint16) if kind == "BF16" else values.astype(np.float16)
        header[name] = {
            "dtype": kind,
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + bits.nbytes],
        }
        data += bits.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_weights_in_memory_tell_what_their_checkpoint_tells(tmp_path: Path) -> None:
    folder = tiny_models.random_folder(tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    live = engine_from_memory(tiny_models.random_weights(), settings, (folder / "tokenizer.json").read_text())
    assert (
        live.batch(["Lily"], SamplingParams(seed=4))[0].text
        == open_model(str(folder)).batch(["Lily"], SamplingParams(seed=4))[0].text
    )


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_a_seed_tells_the_same_story_20_times_in_one_process(tmp_path: Path) -> None:
    engine = open_model(str(tiny_models.random_folder(tmp_path / "model")))
    sample = SamplingParams(seed=11, max_tokens=80)
    first = "".join(engine.stream("Once", sample))
    for other in range(20):
        "".join(engine.stream("Another", SamplingParams(seed=other, max_tokens=other + 1)))
        assert "".join(engine.stream("Once", sample)) == first
        assert engine.batch(["Once"], sample)[0].text == first
    assert engine.batch(["Once"], SamplingParams(seed=12, max_tokens=80))[0].text != first


def test_a_seed_tells_the_same_story_in_a_fresh_process(tmp_path: Path) -> None:
    folder = str(tiny_models.random_folder(tmp_path / "model"))
    code = (
        "import sys; from storyteller.inference.engine import open_model\n"
        "from storyteller.config.configs import SamplingParams\n"
        "print(ascii(open_model(sys.argv[1]).batch(['Once'], SamplingParams(seed=11))[0].text))"
    )
    told = {_python(code, folder).strip() for _ in range(3)}
    assert told == {ascii("".join(open_model(folder).stream("Once", SamplingParams(seed=11))))}


def test_two_stories_told_by_turns_are_those_told_alone(tmp_path: Path) -> None:
    engine = open_model(str(tiny_models.random_folder(tmp_path / "model")))
    samples = [SamplingParams(seed=seed, max_tokens=100) for seed in (1, 2)]
    alone = ["".join(engine.stream("Tim", sample)) for sample in samples]
    both = [engine.stream("Tim", sample) for sample in samples]
    told = ["", ""]
    for _ in range(1000):
        for index, pieces in enumerate(both):
            told[index] += next(pieces, "")
    assert told == alone


def test_a_batch_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    engine = open_model(str(tiny_models.random_folder(tmp_path / "model")))
    prompts, sample = ["Once", "", "Tim and Sue", ""], SamplingParams(seed=3, max_tokens=150)
    first = [story.text for story in engine.batch(prompts, sample)]
    assert [story.text for story in engine.batch(prompts, sample)] == first
    assert len(set(first)) == 4


def test_a_story_without_a_seed_reports_the_one_that_was_drawn(tmp_path: Path) -> None:
    engine = open_model(str(tiny_models.random_folder(tmp_path / "model")))
    story = engine.batch(["Once"], SamplingParams(max_tokens=50))[0]
    assert engine.batch(["Once"], SamplingParams(max_tokens=50, seed=story.seed))[0].text == story.text


# --- text -------------------------------------------------------------------------------------------------------------


def test_a_character_of_several_bytes_comes_whole(tmp_path: Path) -> None:
    engine = script_engine(tmp_path, "aé€😀b")
    # With something to stop at, each token is looked at by itself, however many have come meanwhile.
    assert list(engine.stream("", SamplingParams(seed=1, stop=("!",)))) == ["a", "é", "€", "😀", "b"]
    pieces = list(engine.stream("", SamplingParams(seed=1)))
    assert "".join(pieces) == "aé€😀b" and not any("\ufffd" in piece for piece in pieces)


def test_a_character_cut_off_by_the_end_is_not_shown(tmp_path: Path) -> None:
    engine = script_engine(tmp_path, "ok😀"[:2].encode() + "😀".encode()[:3])
    assert "".join(engine.stream("", SamplingParams(seed=1))) == "ok"
    assert engine.batch([""], SamplingParams(seed=1))[0].text == "ok"


def test_bytes_that_are_no_character_show_as_replacements(tmp_path: Path) -> None:
    engine = script_engine(tmp_path, b"a\xff\xffb")
    assert "".join(engine.stream("", SamplingParams(seed=1))) == "a\ufffd\ufffdb"
    assert engine.batch([""], SamplingParams(seed=1))[0].text == "a\ufffd\ufffdb"


@pytest.mark.skipif(not (SHARED / "stories260K").is_dir(), reason="needs the real model beside the project")
def test_byte_fallback_joins_to_what_the_tokenizer_decodes() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(SHARED / "stories260K" / "tokenizer.json"))
    text = "The fox 🦊 saw 日本語の本 and 🎈🎈🎈 said: \u201cCafé?\u201d " * 4
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    before = tokenizer.encode("The fox", add_special_tokens=False).ids
    after = ids[len(before) :]
    joiner = Detokenizer(tokenizer, before)
    pieces = [joiner.push([token]) for token in after]
    assert not any("\ufffd" in piece for piece in pieces)
    assert tokenizer.decode(before) + "".join(pieces) == tokenizer.decode(ids)


def test_the_end_of_text_ends_a_story(tmp_path: Path) -> None:
    story = script_engine(tmp_path, "The end.").batch([""], SamplingParams(seed=1))[0]
    assert (story.text, story.tokens, story.finished, story.prompt, story.seed) == ("The end.", 8, True, "", 1)


def test_max_tokens_ends_a_story(tmp_path: Path) -> None:
    engine = script_engine(tmp_path, "abcdefgh")
    story = engine.batch(["ab"], SamplingParams(seed=1, max_tokens=3))[0]
    assert (story.text, story.tokens, story.finished) == ("cde", 3, False)
    assert "".join(engine.stream("ab", SamplingParams(seed=1, max_tokens=3))) == "cde"


def test_the_stream_returns_the_whole_story(tmp_path: Path) -> None:
    pieces = script_engine(tmp_path, "abcd").stream("a", SamplingParams(seed=9))
    told = []
    with pytest.raises(StopIteration) as end:
        while True:
            told.append(next(pieces))
    assert "".join(told) == "bcd"
    assert (end.value.value.text, end.value.value.seed, end.value.value.finished) == ("bcd", 9, True)


@pytest.mark.parametrize(
    ("stops", "said"),
    [
        (("end",), "the "),
        (("x", "d of"), "the en"),
        (("nothing",), "the end of it"),
        (("it.",), "the end of it"),  # begins at the end, and never comes
        (("the",), ""),
    ],
)
def test_a_story_is_cut_before_a_stop_string(tmp_path: Path, stops: tuple[str, ...], said: str) -> None:
    engine = script_engine(tmp_path, "the end of it")
    sample = SamplingParams(seed=1, stop=stops)
    pieces = list(engine.stream("", sample))
    assert "".join(pieces) == said
    batch = engine.batch(["", ""], sample)
    assert [story.text for story in batch] == [said, said]
    assert batch[0].finished == (said == "the end of it")


def test_nothing_that_may_begin_a_stop_string_is_shown_early() -> None:
    cutter = StopStrings(["abc", "cd"])
    assert [cutter.push(piece) for piece in ("xa", "b", "ab", "x", "c")] == ["x", "", "ab", "abx", ""]
    assert (cutter.rest(), cutter.found) == ("c", False)
    assert (StopStrings(["ab"]).push("xxab"), StopStrings(["b", "a"]).push("xab")) == ("xx", "x")


def test_special_tokens_in_a_prompt_are_plain_text(tmp_path: Path) -> None:
    engine = script_engine(tmp_path, "")
    assert engine.count(tiny_models.END) == len(tiny_models.END)
    assert engine.end_of_text == tiny_models.END
    assert engine.batch([tiny_models.END], SamplingParams(seed=1))[0].prompt == tiny_models.END


def test_a_prompt_that_was_no_utf8_is_told_from(tmp_path: Path) -> None:
    assert script_engine(tmp_path, "abcdef").batch(["\udcff"], SamplingParams(seed=1))[0].text == "def"


# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_prompt_may_fill_the_context_but_for_one_token(tmp_path: Path) -> None:
    engine = script_engine(tmp_path, "ab" * 32, context=64)
    assert engine.batch(["y" * 63], SamplingParams(seed=1, max_tokens=1))[0].tokens == 1
    with pytest.raises(UsageError, match=r"the prompt is 64 tokens long, the model takes 63"):
        engine.stream("y" * 64, SamplingParams())
    with pytest.raises(UsageError, match=r"100,000 tokens long"):
        engine.batch(["y" * 100_000], SamplingParams())


def test_a_story_outgrows_the_window_and_goes_on(tmp_path: Path) -> None:
    engine = open_model(str(tiny_models.random_folder(tmp_path / "model", eos_token_id=None, bos_token_id=None)))
    sample = SamplingParams(seed=2, max_tokens=500)
    streamed = "".join(engine.stream("Once", sample))
    story = engine.batch(["Once"], sample)[0]
    assert (story.tokens, story.text) == (500, streamed)
    assert [one.tokens for one in engine.batch(["Once", "Tim was a big boy", "T"], sample)] == [500, 500, 500]


class _ScriptBackend:
    """A backend that generates a script, and records the windows that it is given."""

    vocab_size = tiny_models.VOCABULARY

    def __init__(self, script: bytes) -> None:
        self.script = list(script)
        self.windows: list[bytes] = []

    batch_rows, parallel_decodings = 4, 1

    def check(self, params: SamplingParams) -> None:
        pass

    def start(self, params: SamplingParams, worker: int | None = None) -> Decoding:
        del params, worker
        return self

    def tokens(self, window: Sequence[int], limit: int) -> Generator[Sequence[int]]:
        self.windows.append(bytes(window[1:]))
        for _ in range(limit):
            yield [self.script.pop(0) if self.script else tiny_models.END_ID]

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, stop: Callable[[int, int], bool], rows: Sequence[int]
    ) -> list[list[int]]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_the_oldest_text_is_dropped_at_a_sentence_start() -> None:
    backend = _ScriptBackend(b"He ran on. It was far away. He saw a big red fox that ran, and ran")
    engine = Engine("script", backend, tiny_models.byte_tokenizer(), 64, tiny_models.END_ID, [tiny_models.END_ID])
    assert "".join(engine.stream("Tim ran. ", SamplingParams(seed=1))).endswith("that ran, and ran")
    assert backend.windows[0] == b"Tim ran. "
    assert backend.windows[1] == b"He saw a big red fox that r"
    assert engine.recent("Tim ran.") == "Tim ran."
    assert engine.recent("It is a tale. The fox ran. It was quite a good day") == "It was quite a good day"


def test_closing_a_stream_stops_the_telling(tmp_path: Path) -> None:
    engine = open_model(str(tiny_models.random_folder(tmp_path / "model", eos_token_id=None, bos_token_id=None)))
    pieces = engine.stream("Once", SamplingParams(seed=1, max_tokens=1_000_000))
    next(pieces)
    pieces.close()
    assert list(pieces) == []
    assert "".join(engine.stream("Once", SamplingParams(seed=1, max_tokens=5)))


# --- damage -----------------------------------------------------------------------------------------------------------


def refused(folder: Path | str, kind: type[StorytellerError], *words: str) -> None:
    """Opening fails with one line that has each of `words`."""
    with pytest.raises(kind) as error:
        open_model(str(folder))
    line = str(error.value)
    assert "\n" not in line
    assert error.value.remedy
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = tiny_models.random_folder(tmp_path / "model")
    (folder / name).unlink()
    refused(folder, CheckpointError, f"has no {name}")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '"x"'], ids=["cut", "list", "deep", "text"])
def test_broken_json_is_named(tmp_path: Path, name: str, content: str) -> None:
    folder = tiny_models.random_folder(tmp_path / "model")
    (folder / name).write_text(content)
    refused(folder, CheckpointError, name)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", CheckpointError, "there is no folder")
    refused(" ", UsageError, "--model")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_head", 5),
        ("n_head", 0),
        ("n_layer", "2"),
        ("n_layer", -1),
        ("n_embd", None),
        ("n_embd", 16),
        ("vocab_size", 300),
        ("vocab_size", None),
        ("n_positions", 128),
        ("layer_norm_epsilon", "x"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, key: str, value: object) -> None:
    refused(tiny_models.random_folder(tmp_path / "model", **{key: value}), CheckpointError, "config.json")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = tiny_models.random_weights()
    del weights["transformer.h.1.mlp.c_fc.bias"]
    folder = tiny_models.write_folder(tmp_path / "model", weights, tiny_models.config(32, 2, 4, 64))
    refused(folder, CheckpointError, "transformer.h.1.mlp.c_fc.bias")


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    weights = tiny_models.random_weights()
    weights["transformer.wpe.weight"][3, 3] = np.nan
    folder = tiny_models.write_folder(tmp_path / "model", weights, tiny_models.config(32, 2, 4, 64))
    if kind != "F32":
        _write_safetensors(folder / "model.safetensors", {name: (kind, values) for name, values in weights.items()})
    refused(folder, CheckpointError, "transformer.wpe.weight", "non-finite")


def _header(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def _entry(shape: object, offsets: object, kind: object = "F32") -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


HOSTILE = {
    "empty": b"",
    "too short": b"\x01\x02",
    "endless header": struct.pack("<Q", 2**63) + b"{}",
    "header of 11 MiB": struct.pack("<Q", 11 * 2**20) + b" " * (11 * 2**20),
    "no JSON": struct.pack("<Q", 4) + b"nope",
    "no object": struct.pack("<Q", 2) + b"[]",
    "deep": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "no entry": _header(x=1),
    "terabytes": _header(x=_entry([2**40], [0, 2**42])),
    "before the data": _header(x=_entry([1], [-4, 0])) + b"1234",
    "behind the data": _header(x=_entry([1], [4, 8])) + b"1234",
    "shorter than its shape": _header(x=_entry([2], [0, 4])) + b"1234",
    "a truth for a number": _header(x=_entry([True], [0, 4])) + b"1234",
    "negative": _header(x=_entry([-1], [0, 4])) + b"1234",
    "shared bytes": _header(**{f"x{n}": _entry([1], [0, 4]) for n in range(9)}) + b"1234",
    "a list for a type": _header(x=_entry([1], [0, 4], ["F32"])) + b"1234",
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_safetensors_header_is_refused(tmp_path: Path, how: str) -> None:
    folder = tiny_models.random_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(HOSTILE[how])
    refused(folder, CheckpointError, "model.safetensors is damaged")


def test_a_model_that_brings_its_own_code_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_models.random_folder(tmp_path / "odd", auto_map={"AutoModelForCausalLM": "modeling.Model"})
    (folder / "modeling.py").write_text("raise SystemExit(99)")
    refused(folder, ModelError, "odd", "own code")


def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = tiny_models.random_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../model-00001-of-00001.safetensors"}}))
    refused(folder, CheckpointError, "index.json is broken")
    (tmp_path / "model-00001-of-00001.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    assert open_model(str(folder)).batch(["Once"], GREEDY)[0].tokens > 0


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_and_its_steps_are_told_from(tmp_path: Path) -> None:
    from storyteller.tracking import checkpoint_folders, run_folder

    root = tmp_path / "runs"
    run = run_folder.create(root, "little-fox")
    run.write_run({"name": "little-fox", "created_at": "2024-01-01T00:00:00+00:00"})
    for step, script in ((5, "five"), (10, "ten")):
        staging = checkpoint_folders.stage(run, step)
        tiny_models.script_folder(staging, script)
        checkpoint_folders.seal(staging, run, step, {"eval/bpb": step})
    told = {
        reference: open_model(reference, root).batch([""], GREEDY)[0].text
        for reference in ("little-fox", "little-fox@5", "latest", "little-fox@best")
    }
    assert told == {"little-fox": "ten", "little-fox@5": "five", "latest": "ten", "little-fox@best": "five"}
    assert open_model("latest", root).label == "little-fox@10"
    with pytest.raises(RunError, match="no step 7"):
        open_model("little-fox@7", root)
    weights = run.checkpoint(5) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="damaged"):
        open_model("little-fox@5", root)


# --- transformers, in a child -----------------------------------------------------------------------------------------


def save_neo(folder: Path, width: int = 32) -> Path:
    """A small GPT-Neo, as transformers saves it, with the byte tokenizer."""
    import torch
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    torch.manual_seed(0)
    settings = GPTNeoConfig(
        vocab_size=tiny_models.VOCABULARY,
        hidden_size=width,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=2,
        max_position_embeddings=64,
        window_size=8,
        initializer_range=0.3,
        bos_token_id=tiny_models.END_ID,
        eos_token_id=tiny_models.END_ID,
    )
    GPTNeoForCausalLM(settings).save_pretrained(folder)
    tiny_models.byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def neo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_neo(tmp_path_factory.mktemp("neo"))


def test_another_architecture_is_told_as_transformers_tells_it(neo: Path) -> None:
    expected = bytes(
        token for token in transformers_greedy(neo, [tiny_models.END_ID, *b"Once"], 40) if token != tiny_models.END_ID
    )
    with open_model(str(neo)) as engine:
        story = engine.batch(["Once"], SamplingParams(temperature=0, max_tokens=40))[0]
        assert expected.decode("utf-8", "replace").startswith(story.text)
        assert story.text
        sample = SamplingParams(seed=8, max_tokens=100, top_k=50, repetition_penalty=1.1)  # beyond its context of 64
        streamed = "".join(engine.stream("Once", sample))
        next(engine.stream("Tim", SamplingParams(seed=1)))
        assert engine.batch(["Once"], sample)[0].text == streamed
        pieces = engine.stream("Once", SamplingParams(seed=1, max_tokens=50))
        next(pieces)
        engine._backend._child.kill()  # type: ignore[attr-defined]
        with pytest.raises(ModelError, match="signal 9"):
            list(pieces)


def test_an_architecture_that_nobody_knows_is_refused(neo: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(neo, tmp_path / "model")
    settings = {"model_type": "novel", "vocab_size": 257, "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(settings))
    with open_model(str(folder)) as engine, pytest.raises(ModelError, match="novel"):
        engine.batch(["Once"], GREEDY)


def test_weights_that_transformers_would_fill_in_are_refused(neo: Path, tmp_path: Path) -> None:
    from storyteller.model.transformers_server import load

    folder = shutil.copytree(neo, tmp_path / "model")
    weights = load_file(neo / "model.safetensors")
    del weights["transformer.h.0.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing keys: .*c_fc\.weight"):
        load(str(folder))


def test_the_child_draws_among_top_k_then_top_p() -> None:
    import torch

    from storyteller.model.transformers_server import draw

    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()

    def drawn(**options: float) -> list[int]:
        generator = torch.Generator().manual_seed(0)
        params = SamplingParams(**{"temperature": 1, "top_k": 0, "top_p": 1, **options})  # type: ignore[arg-type]
        return sorted({draw(logits, params, [], generator) for _ in range(300)})

    assert drawn() == [0, 1, 2, 3]
    assert drawn(top_k=2) == [0, 1]
    assert drawn(top_p=0.79) == [0, 1]
    assert drawn(top_p=0.81) == [0, 1, 2]
    assert drawn(top_k=3, top_p=0.4) == [0]
    assert drawn(min_p=0.61) == [0]
    assert drawn(min_p=0.59) == [0, 1]
    assert drawn(min_p=0.11) == [0, 1, 2]
    assert drawn(top_p=0.79, min_p=0.61) == [0]
    assert drawn(temperature=0) == [0]


# --- the Hub ----------------------------------------------------------------------------------------------------------


def _hub_python(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """What a fresh process says of opening `name`: huggingface_hub reads its settings once."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    code = (
        "import sys\n"
        "from storyteller.inference.engine import open_model\n"
        "from storyteller.errors import StorytellerError\n"
        "from storyteller.config.configs import SamplingParams\n"
        "try: print(open_model(sys.argv[1]).batch([''], SamplingParams(temperature=0))[0].text)\n"
        "except StorytellerError as error: print(type(error).__name__, error)"
    )
    return _python(code, name)


def test_a_model_comes_from_the_hub_and_then_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.script_folder(tmp_path / "hub" / "models" / "some" / "model", "from the hub")
    with LoopbackHub(tmp_path / "hub") as hub:
        assert _hub_python(hub, monkeypatch, "some/model") == "from the hub\n"
        assert "HubError the Hub has no model some/other" in _hub_python(hub, monkeypatch, "some/other")
        hub.fault("503")
        assert _hub_python(hub, monkeypatch, "some/model") == "from the hub\n"
        assert _hub_python(hub, monkeypatch, "some/third").startswith("HubError the Hub does not answer for some/third")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert _hub_python(hub, monkeypatch, "some/third").startswith("HubError some/third is not in the cache")


def test_a_pickle_is_never_fetched_and_the_hubs_conversion_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "hub" / "models" / "some"
    (tiny_models.script_folder(base / "model", "x") / "model.safetensors").rename(base / "model" / "pytorch_model.bin")
    tiny_models.script_folder(base / "model@refs--pr--2", "converted")
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.author = "stranger"
        assert "ModelError some/model has no safetensors" in _hub_python(hub, monkeypatch, "some/model")
        hub.author = "SFconvertbot"
        assert _hub_python(hub, monkeypatch, "some/model") == "converted\n"
        assert not [request for request in hub.requests if ".bin" in request.path]


def test_a_download_that_stops_coming_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.script_folder(tmp_path / "hub" / "models" / "some" / "model", "x")
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.fault("503", match="resolve")
        began = time.monotonic()
        code = (
            "import sys; from storyteller.inference import hub_models as hub\n"
            "from storyteller.errors import HubError\n"
            "hub._STALL_SECONDS = 1\n"
            "try: hub.fetch(sys.argv[1], lambda line: None)\n"
            "except HubError as error: print(error)"
        )
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert "nothing came for 1 seconds" in _python(code, "some/model")
        assert time.monotonic() - began < 10


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="does not answer for owner/name"):
        open_model("owner/name")


# --- what telling costs -----------------------------------------------------------------------------------------------


def _python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE_PARENT},
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_telling_never_imports_torch(tmp_path: Path) -> None:
    folder = str(tiny_models.script_folder(tmp_path / "model", "fine"))
    code = (
        "import sys; from storyteller.inference.engine import open_model\n"
        "from storyteller.config.configs import SamplingParams\n"
        "assert 'numpy' not in sys.modules and 'ctranslate2' not in sys.modules\n"
        "print(*open_model(sys.argv[1]).stream('', SamplingParams(seed=1)), sep='')\n"
        "print({'torch', 'transformers', 'datasets', 'huggingface_hub', 'wandb'} & set(sys.modules))"
    )
    assert _python(code, folder) == "fine\nset()\n"
