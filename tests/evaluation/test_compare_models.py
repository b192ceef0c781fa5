"""`compare` of models: the same prompts and seeds side by side, scores on the same stories, one page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storyteller.cli import main
from storyteller.cli.wrapped_text import side_by_side, wrap_text
from storyteller.config.configs import SamplingParams
from storyteller.evaluation.bits_per_byte import EvalSet, ModelScores
from storyteller.evaluation.bootstrap import Difference
from storyteller.evaluation.compare_models import (
    ComparedStory,
    ModelComparison,
    generate_stories,
    verdict,
)
from storyteller.inference.engine import open_model
from storyteller.reports.compare_page import comparison_page
from tests.support import tiny_models
from tests.support.hub_loopback import LoopbackHub
from tests.support.ptys import command, environment
from tests.support.training import make_run, sealed_script

Ends = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ends(capsys: pytest.CaptureFixture[str]) -> Ends:
    """The command line in this process: status, output, errors."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        said = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, said.out, said.err

    return run


def scores(name: str, *nats: float) -> ModelScores:
    n = len(nats)
    return ModelScores(name, list(nats), [10] * n, [40] * n, 1_000, "cpu", "fp32", None, 0, 0.5)


def contest(prompt: str = "Once", text: str = " there was a fox.", label: str = "owl") -> ModelComparison:
    told = (ComparedStory(text, 5, True),)
    return ModelComparison(
        ("fox", label),
        (prompt,),
        SamplingParams(seed=7),
        (told, (None,)),
        EvalSet(("one", "two", "three"), "stories"),
        (scores("fox", 20.0, 21.0, 22.0), scores("owl", 30.0, 31.0, 33.0)),
    )


# --- what is said -----------------------------------------------------------------------------------------------------


def test_stories_stand_in_columns_as_wide_as_the_screen_lets_them() -> None:
    text = "It ran and ran until the sun was down."
    assert side_by_side(["fox", "owl"], [text, "Hoo!\nIt sat."], 65) == [
        "fox                               owl",
        "---                               ---",
        "It ran and ran until the sun      Hoo!",
        "was down.                         It sat.",
    ]
    assert side_by_side(["fox", "owl"], [text, "Hoo!"], 40) == [
        "fox",
        "  It ran and ran until the sun was down.",
        "",
        "owl",
        "  Hoo!",
    ]


def test_lines_break_between_words_and_no_control_stays() -> None:
    assert wrap_text("a bb\n\nccc dddd", 6) == ["a bb", "", "ccc", "dddd"]
    assert wrap_text("abcdefgh ij", 5) == ["abcde", "fgh", "ij"]
    assert wrap_text("\u65e5\u672c\u8a9e", 4) == ["\u65e5\u672c", "\u8a9e"]
    assert wrap_text("\x1b[31m", 10) == ["\u241b[31m"]


def test_a_verdict_names_the_better_model_or_says_that_it_cannot_be_told() -> None:
    real = Difference(-0.25, -0.3125, -0.125, significant=True)
    assert verdict("fox", "owl", real, 50) == (
        "fox is better than owl by 0.2500 bits per byte, 95 % from 0.1250 to 0.3125: a significant difference"
    )
    other = Difference(0.25, 0.125, 0.3125, significant=True)
    assert verdict("fox", "owl", other, 50) == verdict("owl", "fox", real, 50)
    unsure = Difference(0.01, -0.02, 0.04, significant=False)
    assert verdict("fox", "owl", unsure, 1_000) == (
        "fox and owl do not differ significantly on these 1,000 stories: "
        "+0.0100 bits per byte, 95 % from -0.0200 to +0.0400"
    )


def test_every_pair_is_compared_on_the_same_stories() -> None:
    held = contest()
    ((a, b, difference),) = held.differences()
    assert (a, b, difference.significant) == ("fox", "owl", True)
    best, behind = held.behind_best()
    assert best is None
    assert behind is not None
    assert behind.value == pytest.approx(-difference.value)
    assert held.to_json()["stories"] == [
        {
            "prompt": "Once",
            "tellings": [{"model": "fox", "text": " there was a fox.", "tokens": 5, "ended": True}, None],
        }
    ]


def test_a_page_has_every_story_and_nothing_in_it_is_markup_of_a_models() -> None:
    evil = "<script>alert(1)</script>\x1b]0;x\x07"
    page = str(comparison_page(contest(prompt=evil, text=evil, label=evil), remarks=[evil]))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", page)
    assert "does not fit into this model" in page
    assert "behind the best" in page


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_prompt_that_does_not_fit_is_left_out_and_the_others_are_told(tmp_path: Path) -> None:
    script = "Once there was a fox."
    folder = tiny_models.script_folder(tmp_path / "model", script)
    said: list[int] = []
    with open_model(str(folder)) as engine:
        told = generate_stories(engine, ["Once", "x" * 64, script[:10]], SamplingParams(seed=1), said.append)
    assert told == (
        ComparedStory(script[4:], len(script) - 4, True),
        None,
        ComparedStory(script[10:], len(script) - 10, True),
    )
    assert said == [0]


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """Options of a comparison of seconds."""
    prompts, data = tmp_path / "prompts.txt", tmp_path / "valid.txt"
    prompts.write_text("Once\nThe dragon\n")
    data.write_text("Once there was a fox.\n\nIt ran away from the owl.")
    given = ("--prompts", str(prompts), "--data", str(data), "--max-tokens", "8", "--seed", "3", "--threads", "1")
    return (*given, "--precision", "fp32", "--device", "cpu")


def test_models_tell_the_same_prompts_with_the_same_seed_and_are_scored_on_the_same_stories(
    ends: Ends, tmp_path: Path, words: tuple[str, ...]
) -> None:
    one, same = (str(tiny_models.random_folder(tmp_path / name)) for name in ("one", "same"))
    page = tmp_path / "page.html"
    status, out, err = ends("compare", one, same, *words, "--json", "--html", str(page))
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert [model["model"] for model in found["models"]] == [one, same]
    assert found["held_out"]["stories"] == 2
    assert [story["prompt"] for story in found["stories"]] == ["Once", "The dragon"]
    for story in found["stories"]:
        first, second = story["tellings"]
        assert first["text"] == second["text"] != ""
    (difference,) = found["score_differences"]
    assert (difference["bits_per_byte"]["value"], difference["bits_per_byte"]["real"]) == (0.0, False)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    status, out, err = ends("compare", one, same, *words, "--show", "1")
    assert "do not differ significantly on these 2 stories" in out
    assert "\n1 of 2: Once\n" in out
    assert "The dragon" not in out


def test_a_file_that_is_no_page_is_refused_before_any_work(ends: Ends, tmp_path: Path) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("mine")
    status, out, err = ends("compare", "starter", "./gone", "--html", str(mine))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "not an HTML page" in err
    assert mine.read_text() == "mine"


def test_a_model_that_is_not_there_is_refused_before_any_work(ends: Ends, tmp_path: Path) -> None:
    one = str(tiny_models.script_folder(tmp_path / "one", "Once."))
    status, out, err = ends("compare", one, "./gone", "--data", "unread.txt")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "there is no folder gone" in err


def test_a_metric_of_runs_is_refused_where_none_is_named(ends: Ends) -> None:
    status, _, err = ends("compare", "starter", "./gone", "--key", "eval/bpb")
    assert (status, err.count("\n")) == (2, 1)


def test_runs_alone_are_compared_without_loading_a_model(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for name in ("fox", "owl"):
        sealed_script(make_run(root, name), 1)
    code = (
        "import sys\nfrom storyteller.cli import main\n"
        f"try: main(['compare', 'fox', 'owl', '--runs-dir', {str(root)!r}])\nexcept SystemExit: pass\n"
        "print({'torch', 'transformers', 'ctranslate2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.endswith("their settings do not differ\nset()\n")


@pytest.mark.slow
def test_published_models_of_two_sizes_are_compared_by_their_names_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    from tests.inference.test_engine import save_neo

    # As on the Hub: the main revision has a pickle alone, the Hub's own conversion has safetensors.
    models = tmp_path / "hub" / "models" / "roneneldan"
    sizes = {"TinyStories-1M": 32, "TinyStories-33M": 64}
    for name, width in sizes.items():
        save_neo(models / f"{name}@refs--pr--3", width)
        save_neo(models / name, width)
        (models / name / "model.safetensors").rename(models / name / "pytorch_model.bin")
    names = [f"roneneldan/{name}" for name in sizes]
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        done = subprocess.run(
            command("compare", *names, *words, "--json"),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=280,
            check=False,
        )
        assert not [request for request in hub.requests if ".bin" in request.path]
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [model["model"] for model in found["models"]] == names
    small, large = (model["parameters"] for model in found["models"])
    assert 20_000 < small < large
    assert all(1 <= each["tokens"] <= 8 for story in found["stories"] for each in story["tellings"])
    assert found["score_differences"][0]["a"] == names[0]
