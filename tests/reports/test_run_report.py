"""The report: all that is known of a run, as a page; what is missing is said; the command trains the same again."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from storyteller.cli import commands
from storyteller.config.configs import Config
from storyteller.config.presets import resolve
from storyteller.data import held_out_file
from storyteller.errors import RunError, UsageError
from storyteller.evaluation.bootstrap import Interval
from storyteller.evaluation.model_card.card import Card, Figure
from storyteller.evaluation.text_metrics.metrics import MEASURES
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from storyteller.launch import run_plan
from storyteller.reports import reproduce_command
from storyteller.reports import run_report as report_pages
from storyteller.reports.run_report import report_page, spread_steps
from storyteller.reports.run_snapshot import earlier_runs, read_snapshot, starter_card
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder, runs_root
from tests.reports.test_pages import HOSTILE, Reader
from tests.support.tui_runs import make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def page_of(*folders: RunFolder) -> str:
    return str(report_page([read_snapshot(folder) for folder in folders]))


def words_of(page: str) -> str:
    """What a reader sees, a space between any two elements."""
    body = page[page.index("<body>") :]
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", body)).split())


def finish(folder: RunFolder, **more: Any) -> None:
    """What a training process adds to the plan once it knows."""
    facts: dict[str, Any] = {
        "model": {"n_layer": 4, "n_embd": 256, "n_head": 4, "context": 256, "vocab_size": 4096, "parameters": 4273664},
        "host": {"device": "cpu", "processor": "A Processor", "threads": 2, "precision": "bf16"},
        "data": {"kind": "bundled", "fingerprint": "f" * 64},
        "versions": {"storyteller": "0.1.0", "torch": "2.13.0"},
    }
    folder.write_run(folder.read_run() | facts | more)


# --- one run ----------------------------------------------------------------------------------------------------------


def test_a_report_has_the_run_its_curves_its_stories_its_settings_and_how_to_do_it_again(root: Path) -> None:
    folder = make(root, "wise-owl", steps=200, bits=0.25, story=" an owl told of the moon.")
    finish(folder)
    page = page_of(folder)
    words = words_of(page)
    assert (
        "wise-owl A story model of 4,273,664 parameters (layers 4, width 256, heads 4, context 256, vocabulary 4096)"
        in (words)
    )
    assert "trained from scratch for 1m40s on A Processor. The run has finished." in words
    assert re.findall(r"<h2[^>]*>([^<]*)", page) == [
        "Training curves ",
        "Samples during training ",
        "Settings ",
        "Reproduce this run",
    ]
    tiles = re.search(r'<dl class="tiles">(.*?)</dl>', page)
    assert tiles is not None
    assert re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", tiles[1]) == [
        ("held-out bits per byte", "0.2500"),
        ("training loss, nats per token", "1.3636"),
        ("steps", "200"),
        ("tokens", "12,800"),
        ("tokens per second", "5,100"),
    ]
    assert "Training loss nats per token" in words
    assert "Once an owl told of the moon." in words
    assert "step 200" in words and "0.2500 bits per byte" in words
    assert "train.steps 200 none" not in words
    assert '<th scope="row" class="words">train.steps</th><td class="words">200</td>' in page
    assert "storyteller train --preset quick --data auto" not in words
    assert "torch 2.13.0" in words


def test_the_best_figure_is_said_where_it_is_not_the_last(root: Path) -> None:
    folder = make(root, "wise-owl", bits=0.5)
    with JsonLog(folder.metrics) as log:
        log.append({"step": 110, "eval/bpb": 0.75})
    assert re.findall(r"<dt>([^<]*bits[^<]*)</dt><dd>([^<]*)</dd>", page_of(folder)) == [
        ("held-out bits per byte", "0.7500"),
        ("best bits per byte", "0.5000"),
    ]


def test_of_many_stories_the_first_the_last_and_some_closer_together_at_the_beginning_are_shown() -> None:
    assert spread_steps([0, 10, 20], 8) == [0, 10, 20]
    assert spread_steps(range(0, 1001, 10), 8) == [0, 20, 30, 60, 120, 250, 500, 1000]
    assert spread_steps([0, *range(900, 1000)], 4) == [0, 900, 998, 999]


def test_a_run_that_has_failed_says_why(root: Path) -> None:
    folder = make(root, "shy-hen", "failed", message="the disk is full: free some space")
    assert "It ended with: the disk is full: free some space" in words_of(page_of(folder))


# --- what is missing or hostile ---------------------------------------------------------------------------------------


def damaged(folder: RunFolder, how: str) -> str:
    """Break the run; what the report is to say of it."""
    if how == "plan broken":
        folder.run_json.write_text("{")
        return "The run.json of wise-owl is broken: its settings, data and machine are not known."
    if how == "plan odd":
        odd = {"config": {"preset": ["x"], "model": 7, "train": {"steps": {"a": None}}}, "host": [1], "versions": "x"}
        folder.write_run(odd | {"model": {"parameters": True}, "data": None, "created_at": 7})
        return "The settings of the run are not known, so there is no command."
    if how == "no metrics":
        folder.metrics.unlink()
        return "There are no metrics, so there are no curves."
    if how == "metrics broken":
        folder.metrics.write_bytes(b"\xff\x00{]\n" * 50)
        return "There are no metrics, so there are no curves."
    if how == "no samples":
        folder.samples.unlink()
        return "No samples were generated during training."
    if how == "status broken":
        folder.status_json.write_text("[]")
        return "The run's status is missing or broken: how it ended is not known."
    folder.checkpoint(10).mkdir(parents=True)
    return "Checkpoint wise-owl@10 has no manifest.json."


@pytest.mark.parametrize(
    "how",
    ["plan broken", "plan odd", "no metrics", "metrics broken", "no samples", "status broken", "checkpoint broken"],
)
def test_a_damaged_run_gives_a_report_with_what_is_there_and_says_what_is_missing(root: Path, how: str) -> None:
    folder = make(root, "wise-owl", story=" an owl.")
    missing = damaged(folder, how)
    words = words_of(page_of(folder))
    assert missing in words
    assert "wise-owl" in words
    assert ("Once an owl." in words) == (how != "no samples")
    assert ("Training loss" in words) == (how not in ("no metrics", "metrics broken"))
    words_of(page_of(folder, make(root, "sound-fox")))


def test_nothing_that_a_run_holds_becomes_markup_or_a_control(root: Path) -> None:
    pages: list[str] = []
    for text in ("plain", "".join(HOSTILE[:-4])):
        folder = make(root, f"run-{len(pages)}", "failed", message=text, story=text)
        with JsonLog(folder.samples) as log:
            log.append({"step": 100, "prompt": f"Once {text}", "text": text})
        with JsonLog(folder.metrics) as log:
            log.append({"step": 110, f"own/{text[:40]}": 1.5})
        run = folder.read_run()
        run["config"]["data"]["source"] = [text]
        folder.write_run(run | {"host": {"processor": text}, "versions": {text: text}, "data": {"kind": text}})
        pages.append(page_of(folder))
    plain, hostile = (Reader(page) for page in pages)
    assert hostile.tags == plain.tags
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", pages[1])


def test_a_log_of_many_lines_gives_a_small_page(root: Path) -> None:
    folder = make(root, "long-run", steps=10)
    with folder.metrics.open("a") as log:
        for step in range(11, 12_000):
            row = {"step": step, "tokens": step * 64, "seconds": step / 9, "train/loss": 1 + step % 7, "train/lr": 1e-3}
            log.write(json.dumps(row | {f"own/{i}": step % (i + 2) for i in range(4)}) + "\n")
    assert len(page_of(folder)) < 500_000


# --- several runs, and earlier ones -----------------------------------------------------------------------------------


def test_several_runs_are_laid_over_each_other_with_what_differs(root: Path) -> None:
    others: dict[str, Any] = {"train.lr": 0.5, "train.seed": 7}
    folders = [make(root, "fox", bits=0.5), make(root, "owl", bits=0.25, **others)]
    page = page_of(*folders)
    assert "<h1>fox and owl</h1>" in page
    rows = re.findall(
        r'<th scope="row" class="words">(train[^<]*)</th><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>', page
    )
    assert rows == [("train.lr", "0.008", "0.5"), ("train.seed", "42", "7")]
    assert re.findall(r"<span>(fox|owl) <b>(0[^<]*)</b></span>", page)[:2] == [("fox", "0.5000"), ("owl", "0.2500")]
    assert "those of some runs are not known" in words_of(page)
    for folder in folders:
        held_out_file.save(folder.held_out, ["a story"], frozenset([b"k" * 16]))
    assert "All runs were evaluated on the same held-out stories" in words_of(page_of(*folders))
    held_out_file.save(folders[0].held_out, ["another"], frozenset([b"k" * 16]))
    assert "their bits per byte cannot be compared" in words_of(page_of(*folders))


def test_runs_that_were_begun_before_it_stand_beside_it(root: Path) -> None:
    folders = [
        make(root, name, created_at=f"2026-01-01T1{i}:00:00Z", bits=bits)
        for i, (name, bits) in enumerate([("old", 0.9), ("mid", 0.7), ("new", 0.5), ("newest", 0.3)])
    ]
    for folder, story in zip(folders, ["a", "b", "b", "b"], strict=True):
        held_out_file.save(folder.held_out, [story], frozenset([b"k" * 16]))
    earlier = earlier_runs(folders[2])
    assert [other.result.name for other in earlier] == ["mid", "old"]
    page = str(report_page([read_snapshot(folders[2])], earlier=earlier))
    rows = re.findall(r'<tr><th scope="row"[^>]*>(?:<strong>)?(new|mid|old)<.*?<td[^>]*>([^<]*)</td></tr>', page)
    assert rows == [("new", "\u2013"), ("mid", "the same"), ("old", "different")]


# --- cards ------------------------------------------------------------------------------------------------------------


def card_of(model: str, value: float) -> Card:
    spelled, real = Interval(value, value - 1, value + 1), Interval(99, 98, 100)
    figure = Figure("known_words_pct", "Known words", "of the words told", "%", "higher", spelled, real)
    return Card(
        model=model,
        made_at="2026-01-01T00:00:00Z",
        seconds=1.0,
        parameters=7,
        telling={"prompts": 1, "completions": 1, "stories": 1, "tokens": 3, "seconds": 1.0},
        real={"stories": 5, "words": "held out"},
        trained_on={"words": "the bundled stories"},
        figures=(figure,),
        examples=(),
        stories=(StoryCompletion("Once", " a fox.", True),),
    )


def test_the_newest_card_of_a_run_is_a_part_of_its_report_beside_the_starters(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [make(root, "fox"), make(root, "owl")]
    for folder, value in zip(folders, (90.0, 95.0), strict=True):
        folder.cards.mkdir()
        for step, shown in ((50, 80.0), (100, value)):
            folder.card(step).write_text(json.dumps(card_of(f"{folder.name}@{step}", shown).to_json()))
        folder.card(200).write_text("{")
    monkeypatch.setattr(report_pages, "starter_card", lambda: card_of("starter", 97.0))
    words = words_of(page_of(folders[0]))
    assert "Model card step 100" in words
    assert "90.0 % (89.0 to 91.0)" in words and "80.0 %" not in words
    assert "Known words 90.0 % (89.0 to 91.0) 97.0 % (96.0 to 98.0) 99.0 % (98.0 to 100.0)" in words
    words = words_of(page_of(*folders))
    assert "measure fox owl real stories Known words 90.0 % (89.0 to 91.0) 95.0 % (94.0 to 96.0) 99.0 %" in words


# --- the command ------------------------------------------------------------------------------------------------------


class Planned(Exception):
    """What a command line would train."""


def planned(command: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    words = shlex.split(command)

    def plan(_root: Path, _name: str | None, config: Config, *_rest: object) -> None:
        raise Planned(config)

    monkeypatch.setattr(run_plan, "create_run", plan)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(Planned) as caught:
        commands.run(words[1:])
    config = caught.value.args[0]
    assert isinstance(config, Config)
    return config


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("quick", {}),
        ("classic", {}),
        ("quick", {"train.steps": 2000, "model.n_embd": 384, "train.lr": 0.1 + 0.2, "train.seed": 7}),
        ("classic", {"train.tokens": 10**9, "train.beta1": 1e-05, "data.valid_pct": 12.5, "train.eval_every": "5m"}),
        ("quick", {"train.epochs": 0.5, "data.clean": "classic", "data.tokenizer": "gpt2", "train.skip_bad_steps": 3}),
        ("quick", {"data.source": ('it\'s & "mine" $HOME.jsonl', "-b.txt"), "data.valid": ("held out.txt",)}),
        ("quick", {"train.threads": 3, "train.precision": "fp32", "train.device": "cpu", "data.source": "bundled"}),
    ],
)
def test_the_command_asks_for_the_very_settings_of_the_run(
    preset: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('it\'s & "mine" $HOME.jsonl', "-b.txt", "held out.txt"):
        Path(name).touch()
    for key in ("data.source", "data.valid"):
        if isinstance(options.get(key), tuple):
            options = options | {key: tuple(str(Path(name).resolve()) for name in options[key])}
    config = resolve(preset, options)
    assert planned(reproduce_command.command({"config": config.to_json()}), monkeypatch) == config


def test_the_command_says_outright_what_the_run_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run = {
        "config": resolve("quick", {}).to_json(),
        "host": {"device": "cpu", "precision": "bf16", "threads": 2},
        "data": {"kind": "bundled"},
    }
    again_config = planned(reproduce_command.command(run), monkeypatch)
    asked = (again_config.train.device, again_config.train.precision, again_config.train.threads)
    assert (asked, again_config.data.source) == (("cpu", "bf16", 2), "bundled")
    assert reproduce_command.command(run | {"host": {"processes": 2, "threads": 1}}).endswith(" --nproc 2")


@pytest.mark.parametrize("config", [None, {}, {"preset": "gone"}, {"preset": "quick", "train": {"flux": 1}}])
def test_a_config_that_this_version_does_not_know_gives_no_command(config: object) -> None:
    assert reproduce_command.command({"config": config}) == ""


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_report_is_written_where_it_was_asked_for(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(root, "wise-owl")
    commands.run(["report", "wise", "--runs-dir", str(root)])
    said = capsys.readouterr()
    size = Path("report-wise-owl.html").stat().st_size
    assert said.out == f"report-wise-owl.html: {size / 1e3:,.0f} kB\n"
    assert said.err == "wise-owl: No samples were generated during training.\nwise-owl: There is no checkpoint.\n"
    commands.run(["report", "wise-owl", "--out", "x.html", "--json", "--runs-dir", str(root)])
    assert json.loads(capsys.readouterr().out) == {
        "page": "x.html",
        "bytes": Path("x.html").stat().st_size,
        "runs": ["wise-owl"],
        "missing": {"wise-owl": ["No samples were generated during training.", "There is no checkpoint."]},
    }


def test_a_run_without_its_plan_is_reported_on_by_its_whole_name(root: Path) -> None:
    make(root, "wise-owl").run_json.unlink()
    commands.run(["report", "wise-owl", "--out", "x.html", "--runs-dir", str(root)])
    assert "Wise-owl is not a run: it has no run.json" in words_of(Path("x.html").read_text(encoding="utf-8"))
    with pytest.raises(RunError, match="there is no run wise"):
        commands.run(["report", "wise", "--runs-dir", str(root)])
    shutil.rmtree(root / "wise-owl")
    with pytest.raises(RunError, match="there is no run"):
        commands.run(["report", "wise-owl", "--runs-dir", str(root)])


def test_a_report_replaces_no_notes_and_reads_nothing_before_it_says_so(root: Path) -> None:
    make(root, "wise-owl")
    Path("notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt exists and is not an HTML page"):
        commands.run(["report", "wise-owl", "--out", "notes.txt", "--runs-dir", str(runs_root(root))])
    assert Path("notes.txt").read_text() == "mine"


def test_the_starters_card_has_every_figure_and_quotes_no_story() -> None:
    card = starter_card()
    assert card is not None
    assert [figure.key for figure in card.figures] == ["bits_per_byte", *(measure.key for measure in MEASURES)]
    assert not card.examples and not card.stories
    assert "/" not in card.real["words"] + card.trained_on["words"]
