"""Scores of models: every story by itself, the same as the logits say, with intervals and real differences."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, normalizers

from storyteller.cli import main
from storyteller.config.configs import TrainConfig
from storyteller.data import held_out_file as keeping
from storyteller.data.cleaning import clean
from storyteller.errors import CheckpointError, CorpusError, ModelError
from storyteller.evaluation import bits_per_byte
from storyteller.model.loss_eval import windows
from storyteller.model.weights import load_model
from storyteller.tracking import run_folder
from tests.conftest import SHARED
from tests.support import tiny_models

PLAIN = TrainConfig(device="cpu", precision="fp32", threads=1)
STORIES = ("Once there was a fox.", "The \u00e9clair fell. " * 9, "Run!")


def by_hand(folder: Path, story: str) -> float:
    """The nats of one story, window by window."""
    model = load_model(folder)
    full = torch.tensor([tiny_models.END_ID, *story.encode()])
    nats = 0.0
    for start, end, first in windows(len(full) - 1, model.shape.context):
        with torch.no_grad():
            logp = model(full[None, start:end]).log_softmax(-1)[0]
        nats -= sum(float(logp[t - start, full[t + 1]]) for t in range(first, end))
    return nats


def test_each_story_has_the_nats_that_the_logits_give_it(tmp_path: Path) -> None:
    folder = tiny_models.random_folder(tmp_path / "model")
    heard: list[float] = []
    scores = bits_per_byte.score_model(str(folder), STORIES, settings=PLAIN, on_progress=heard.append)
    assert scores.nats == pytest.approx([by_hand(folder, story) for story in STORIES], rel=1e-5)
    assert scores.n_bytes == scores.n_tokens == [len(story.encode()) for story in STORIES]
    assert (scores.device, scores.precision, scores.bf16_bits, scores.changed_stories) == ("cpu", "fp32", None, 0)
    assert scores.parameters == 257 * 32 + 64 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_the_figures_are_ratios_of_sums_within_their_intervals(tmp_path: Path) -> None:
    one = tiny_models.random_folder(tmp_path / "one")
    other = tiny_models.write_folder(
        tmp_path / "other", tiny_models.random_weights(seed=1), tiny_models.config(32, 2, 4, 64)
    )
    a, b = (bits_per_byte.score_model(str(folder), STORIES, settings=PLAIN) for folder in (one, other))
    nats, tokens, size = sum(a.nats), sum(a.n_tokens), sum(a.n_bytes)
    assert a.bits_per_byte.value == pytest.approx(nats / math.log(2) / size)
    assert a.nats_per_token.value == pytest.approx(nats / tokens)
    assert a.perplexity.value == pytest.approx(math.exp(nats / tokens))
    for interval in (a.bits_per_byte, a.nats_per_token, a.perplexity):
        assert interval.low <= interval.value <= interval.high
    assert not a.difference(a).significant
    assert a.difference(b).value == pytest.approx(a.bits_per_byte.value - b.bits_per_byte.value)
    assert json.loads(json.dumps(a.to_json()))["bytes"] == size


def test_a_tokenizer_that_loses_something_is_told_of(tmp_path: Path) -> None:
    folder = tiny_models.random_folder(tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(folder / "tokenizer.json"))
    assert bits_per_byte.score_model(str(folder), ("A fox.", "a fox."), settings=PLAIN).changed_stories == 1


def test_values_that_are_no_numbers_are_an_error_not_a_score(tmp_path: Path) -> None:
    weights = tiny_models.random_weights()
    weights["transformer.ln_f.weight"][:] = 1e38
    folder = tiny_models.write_folder(tmp_path / "model", weights, tiny_models.config(32, 2, 4, 64))
    with pytest.raises(ModelError, match="not finite"):
        bits_per_byte.score_model(str(folder), STORIES, settings=PLAIN)


@pytest.mark.parametrize("name", ["nowhere/at/all", "./gone"])
def test_a_model_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        bits_per_byte.score_model(name, STORIES, settings=PLAIN)


# --- which stories ----------------------------------------------------------------------------------------------------


def run_with(root: Path, name: str, *stories: str) -> None:
    folder = run_folder.create(root, name)
    folder.write_run({"name": name, "created_at": "2026-01-01T00:00:00Z", "config": {}})
    keeping.save(folder.held_out, stories, frozenset({b"k" * 16}))


def test_runs_are_scored_on_what_they_held_out_in_equal_parts(tmp_path: Path) -> None:
    run_with(tmp_path, "fox", "one", "two", "three")
    run_with(tmp_path, "owl", "two", "four")
    alone = bits_per_byte.held_out(["fox@best", "starter"], tmp_path)
    assert alone == bits_per_byte.EvalSet(("one", "two", "three"), "the held-out stories of fox")
    both = bits_per_byte.held_out(["fox", "owl"], tmp_path, limit=3)
    assert both == bits_per_byte.EvalSet(("one", "two", "four"), "the held-out stories of the runs fox, owl")


def test_stories_of_a_file_are_cleaned_as_asked(tmp_path: Path) -> None:
    path, raw = tmp_path / "valid.jsonl", "He said \u201cno\u201d.\n\n\nIt  rained, and then it rained again."
    path.write_text(json.dumps({"text": raw}) + "\n" + json.dumps({"text": "Another story, cut off here."}) + "\n")
    light = bits_per_byte.held_out(["fox"], data=[str(path)], limit=1)
    assert light == bits_per_byte.EvalSet((clean(raw),), f"{path}, cleaned light")
    as_is = bits_per_byte.held_out(["fox"], data=[str(path)], cleaning="none")
    assert as_is.stories == (raw, "Another story, cut off here.")
    with pytest.raises(CorpusError):
        bits_per_byte.held_out(["fox"], data=[str(tmp_path / "gone.jsonl")])


def test_other_models_are_scored_on_tales_that_no_run_of_them_trains_on() -> None:
    from storyteller.data.held_out_stories import is_below, story_hash

    held = bits_per_byte.held_out(["starter"], limit=2)
    assert held.source == "the held-out bundled stories"
    assert [is_below(story_hash(story), 1.0) for story in held.stories] == [True, True]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ends(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: status, output, errors."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        said = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, said.out, said.err

    return run


def test_eval_prints_the_figures_and_what_they_are_of(
    ends: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    folder, data = tiny_models.random_folder(tmp_path / "model"), tmp_path / "valid.txt"
    data.write_text("\n\n".join(("Once there was a fox.", "It ran away from the owl.")), encoding="utf-8")
    words = ("eval", str(folder), "--data", str(data), "--precision", "fp32", "--device", "cpu", "--threads", "1")
    status, out, err = ends(*words)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{folder}: 35,744 parameters, on 2 stories: {data}, cleaned light"
    assert [line.split("  ")[0] for line in lines[2:5]] == ["bits per byte", "nats per token", "perplexity"]
    assert lines[5].startswith("46 tokens, 46 bytes in ")
    found = json.loads(ends(*words, "--json")[1])
    assert f"{found['bits_per_byte']['value']:.4f}" == lines[2].split()[3]
    assert (found["stories"], found["tokens"], found["data"]) == (2, 46, f"{data}, cleaned light")


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (("eval", "owl"), 1, "there is no run owl"),
        (("eval", "./gone", "--data", "gone.jsonl"), 1, "gone.jsonl"),
        (("eval", "starter", "--precision", "fp16"), 2, "--precision"),
        (("eval", "starter", "--stories", "0"), 2, "--stories"),
    ],
)
def test_eval_of_what_is_not_there_ends_in_one_line(
    ends: Callable[..., tuple[int, str, str]], words: tuple[str, ...], status: int, line: str
) -> None:
    code, out, err = ends(*words)
    assert (code, out, err.count("\n")) == (status, "", 1)
    assert line in err


# --- models of others -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_that_sees_what_is_to_come_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    folder = tiny_models.random_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    settings = BertConfig(
        vocab_size=tiny_models.VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        bos_token_id=tiny_models.END_ID,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    BertLMHeadModel(settings).save_pretrained(folder)
    with pytest.raises(ModelError, match="sees the tokens that it has to predict"):
        bits_per_byte.score_model(str(folder), STORIES, settings=PLAIN)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "stories260K").is_dir(), reason="needs the real model beside the project")
def test_a_published_model_scores_what_a_plain_loop_of_transformers_gives_it() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, limit = str(SHARED / "stories260K"), 6
    held = bits_per_byte.held_out([name], data=[str(SHARED / "tinystories" / "valid.jsonl")], limit=limit)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    context, nats, size = model.config.max_position_embeddings, 0.0, 0
    with (SHARED / "tinystories" / "valid.jsonl").open(encoding="utf-8") as file:
        stories = [json.loads(next(file))["text"] for _ in range(limit)]
    for story in stories:
        full = [model.config.bos_token_id, *tokenizer(story, add_special_tokens=False).input_ids]
        size, start, scored = size + len(story.encode()), 0, 1
        while scored < len(full):
            window = torch.tensor([full[start : start + context + 1]])
            with torch.no_grad():
                logp = model(window[:, :-1]).logits[0].log_softmax(-1)
            taken = logp[torch.arange(len(logp)), window[0, 1:]]
            nats -= float(taken[scored - start - 1 :].sum())
            scored, start = start + window.shape[1], start + context // 2
    for settings in (PLAIN, TrainConfig(device="cpu", threads=1)):
        scores = bits_per_byte.score_model(name, held.stories, settings=settings)
        assert scores.bits_per_byte.value == pytest.approx(nats / math.log(2) / size, abs=0.002)
