"""Cards beside training: made in a process of their own, logged as eval/..., and never waited for."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from storyteller.config.configs import TrainConfig
from storyteller.errors import UsageError
from storyteller.evaluation.model_card import card
from storyteller.system.child_process import JsonLinesProcess
from storyteller.tracking.metrics_log import by_step
from storyteller.training import worker
from storyteller.training.card_writer import CardWriter
from tests.evaluation.test_model_card import SMALL
from tests.support.records import read_records
from tests.support.training import make_run, tiny_config, trained_run

if TYPE_CHECKING:
    from storyteller.tracking.run_folder import RunFolder


@pytest.fixture
def stories(tmp_path: Path) -> str:
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps({"text": story}) + "\n" for story in SMALL))
    return str(path)


@pytest.mark.slow
def test_scores_of_cards_are_logged_as_they_come_and_cards_are_kept(
    tmp_path: Path, stories: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_LAST_CARD_SECONDS", 280.0)
    run = trained_run(tmp_path / "runs", "r", data_source=stories, train_steps=4, train_card_every="2", train_seed=3)
    records = read_records(run.metrics)[0]
    scored = [record for record in records if "eval/card_step" in record]
    assert scored[-1]["eval/card_step"] == 4
    assert all(isinstance(value, int | float) for key, value in scored[-1].items() if key.startswith("eval/"))
    assert {"eval/known_words_pct", "eval/copied_pct", "eval/looped_pct", "eval/distinct_2"} <= scored[-1].keys()
    assert [record["step"] for record in records] == sorted(record["step"] for record in records)
    assert by_step(records)[-1]["eval/words"] == scored[-1]["eval/words"]
    kept = card.read_card(run.card(4))
    assert kept is not None and kept.model == "r@4" and kept.trained_on["own"] is True
    assert kept.figure("known_words_pct") is not None
    assert "a card of step 4: known words" in run.log.read_text()


def test_no_card_is_made_unless_it_is_asked_for() -> None:
    assert tiny_config().train.card_every == "never"
    with pytest.raises(UsageError, match="--card-every"):
        TrainConfig(card_every="often")


def a_writer(run: RunFolder, lines: list[str]) -> CardWriter:
    from storyteller.data.tokenizer import Tokenizer
    from tests.support.tiny_models import END, byte_tokenizer

    return CardWriter(run, Tokenizer(byte_tokenizer(), END, "folder"), tiny_config(), lines.append)


def weights() -> dict[str, torch.Tensor]:
    return {"transformer.wte.weight": torch.zeros(4, 4)}


@pytest.mark.parametrize("child", ["import time; time.sleep(600)", "raise SystemExit(1)", "print('no JSON')"])
def test_a_process_that_hangs_or_breaks_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str
) -> None:
    started: list[JsonLinesProcess] = []

    def start(_: CardWriter) -> JsonLinesProcess:
        started.append(JsonLinesProcess([sys.executable, "-c", child]))
        return started[-1]

    monkeypatch.setattr(CardWriter, "_start_child", start)
    lines: list[str] = []
    writer = a_writer(make_run(tmp_path / "runs", "r"), lines)
    begin = time.perf_counter()
    for step in range(1, 6):
        writer.submit(step, weights())
    assert writer.take_scores() == []
    assert time.perf_counter() - begin < 30.0
    hangs = "sleep" in child
    writer.close(0.5 if hangs else 60.0)
    assert not any(process.is_running for process in started)
    assert writer.take_scores() == []
    if not hangs:
        assert "no card of step 5 (the process that makes cards has ended)" in lines
