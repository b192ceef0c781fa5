"""The story stream: cleaned, held-out stories left out, shuffled, and resumed exactly."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storyteller.config.configs import Clean, DataConfig
from storyteller.data import bundled, cleaning
from storyteller.data.held_out_stories import held_out_stories, is_below, story_hash
from storyteller.data.local_files import Cursor, Faults, Files
from storyteller.data.sources import BundledSource, StorySource, open_corpus
from storyteller.data.story_stream import StoryCounts, StoryStream
from storyteller.errors import CorpusError
from tests.data.test_local_files import write_corpus

NAMES = ["Tim", "Sue", "Ben", "Mia", "Tom", "Lily", "Max", "Anna", "Sam", "Zoe"]
STORIES = [
    f"Once upon a time, {a} and {b} found \u201ca red ball\u201d \u2014 it was well-made.\nThey played until {n}."
    for n, (a, b) in enumerate((a, b) for a in NAMES for b in NAMES)
]


class Listed:
    """A source of stories in memory."""

    def __init__(self, stories: list[str]) -> None:
        self.description: dict[str, Any] = {"kind": "listed"}
        self.notes: list[str] = []
        self.faults = Faults()
        self.patience_seconds = math.inf
        self.stories = stories
        self.reads: list[int] = []

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        del epoch
        for index in range(int(cursor["n"]) if cursor else 0, len(self.stories)):
            self.reads.append(index)
            yield self.stories[index], {"n": index + 1}

    def share(self, cursor: Cursor) -> float:
        return float(cursor["n"] / len(self.stories))


def is_held_out(story: str, valid_pct: float) -> bool:
    return is_below(story_hash(story), valid_pct)


def data_of(source: str | tuple[str, ...] = "bundled", **values: Any) -> DataConfig:
    return DataConfig(source=source, **values)


def first(count: int, source: StorySource, data: DataConfig, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    """The first stories of the stream, each with its position as it comes back from JSON."""
    stories = StoryStream(source, data, seed=7, **options)
    return [(story, json.loads(json.dumps(position))) for story, position in islice(stories, count)]


def check_resumes(source: StorySource, data: DataConfig, count: int, cuts: list[int]) -> None:
    """Resuming after each of the cuts in turn gives what an uninterrupted stream gives."""
    whole = first(count, source, data)
    pieces: list[tuple[str, dict[str, Any]]] = []
    for start, end in zip([0, *cuts], [*cuts, count], strict=True):
        pieces += first(end - start, source, data, position=pieces[-1][1] if pieces else None)
    assert pieces == whole


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 12),
    shuffle=st.integers(1, 14),
    cuts=st.lists(st.integers(1, 40), max_size=5, unique=True).map(sorted),
)
def test_resuming_at_any_points_equals_never_having_stopped(n: int, shuffle: int, cuts: list[int]) -> None:
    stories = [story for story in STORIES if not is_held_out(story, 1.0)][:n]
    source = Listed([*stories, "short"])
    check_resumes(source, data_of(shuffle_stories=shuffle), 41, cuts)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shuffle=st.sampled_from([1, 7, 64, 1000]), cuts=st.lists(st.integers(1, 249), max_size=4, unique=True).map(sorted)
)
@pytest.mark.parametrize("kind", ["jsonl", "json", "txt", "marks.txt", "csv", "parquet", "jsonl.gz"])
def test_every_format_resumes_exactly_over_epochs(kind: str, shuffle: int, cuts: list[int], tmp_path: Path) -> None:
    paths = [tmp_path / f"{half}.{kind}" for half in (0, 1)]
    for half, path in enumerate(paths):
        if not path.exists():
            write_corpus(path, STORIES[half * 50 : half * 50 + 50])
    check_resumes(Files([str(path) for path in paths]), data_of(shuffle_stories=shuffle), 250, cuts)


def test_the_bundled_stories_resume_exactly_and_the_next_epoch_has_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "N_STORIES", 20)
    source = BundledSource(seed=3)
    assert [story for story, _ in source.read(1, None)] == [bundled.story(n, 3) for n in range(20, 40)]
    check_resumes(source, data_of(shuffle_stories=8), 50, [1, 8, 19, 20, 21, 33])
    assert len({story for story, _ in first(55, source, data_of(shuffle_stories=8))}) == 55


def test_a_resume_reads_one_block_again_and_nothing_before_it() -> None:
    source = Listed([story for story in STORIES if not is_held_out(story, 1.0)])
    data = data_of(shuffle_stories=10)
    _, position = first(35, source, data)[-1]
    assert (position["epoch"], position["block"], position["offset"]) == (0, 3, 5)
    source.reads.clear()
    first(1, source, data, position=position)
    assert min(source.reads) == 30


def test_the_order_is_shuffled_in_blocks_by_seed_and_epoch() -> None:
    stories = [cleaning.clean(story) for story in STORIES if not is_held_out(story, 1.0)][:20]
    source = Listed(stories)
    two_epochs = [story for story, _ in first(40, source, data_of(shuffle_stories=8))]
    block = stories[:8]
    random.Random("7:0:0").shuffle(block)
    assert two_epochs[:8] == block
    assert sorted(two_epochs[8:16]) == sorted(stories[8:16])
    assert sorted(two_epochs[16:20]) == sorted(stories[16:20])
    assert sorted(two_epochs[20:]) == sorted(stories)
    assert two_epochs[20:] != two_epochs[:20]
    assert [story for story, _ in islice(StoryStream(source, data_of(shuffle_stories=8), seed=8), 8)] != block
    assert [story for story, _ in first(20, source, data_of(shuffle_stories=1))] == stories


def test_the_position_behind_an_epochs_last_story_is_the_next_epochs_beginning() -> None:
    stories = [story for story in STORIES if not is_held_out(story, 1.0)][:10]
    positions = [position for _, position in first(10, Listed([*stories, "short"]), data_of(shuffle_stories=5))]
    assert [position["epoch"] for position in positions] == [0] * 9 + [1]
    assert positions[4] == {"epoch": 0, "block": 1, "offset": 0, "cursor": {"n": 5}, "passes": 5 / 11}
    assert positions[-1] == {"epoch": 1, "block": 0, "offset": 0, "cursor": None, "passes": 1.0}
    assert [round(11 * position["passes"], 6) for position in positions[:5]] == [1, 2, 3, 4, 5]


def test_a_block_of_huge_stories_ends_before_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storyteller.data.story_stream._BLOCK_CHARS", 250)
    stories = [story for story in STORIES if not is_held_out(story, 1.0)][:10]
    assert all(80 < len(story) < 125 for story in stories)
    blocks = [position["block"] for _, position in first(9, Listed(stories), data_of())]
    assert blocks == [0, 1, 1, 2, 2, 3, 3, 4, 4]


# --- held out ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", ["light", "classic"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "txt", "marks.txt", "csv", "parquet", "jsonl.gz"])
def test_no_validation_story_is_ever_trained_on(kind: str, clean: Clean, tmp_path: Path) -> None:
    source = Files([str(write_corpus(tmp_path / f"stories.{kind}", STORIES))])
    data = data_of(valid_pct=20, clean=clean)
    held, keys = held_out_stories(source, data, limit=5)
    trained = {story for story, _ in first(200, source, data, held_out=keys)}
    set_aside = [cleaning.clean(story, clean) for story in STORIES if is_held_out(story, 20)]
    assert 10 < len(set_aside) < 30
    assert held == set_aside[:5]
    assert trained == {cleaning.clean(story, clean) for story in STORIES} - set(set_aside)


def test_the_split_does_not_depend_on_cleaning_case_quotes_or_white_space() -> None:
    for story in STORIES:
        for variant in (
            cleaning.clean(story),
            cleaning.clean(cleaning.clean(story)),
            f"  {story.upper()}\r\n",
            story.replace("\u201c", '"'),
        ):
            assert story_hash(variant) == story_hash(story)
    assert len({story_hash(story) for story in STORIES}) == len(STORIES)
    assert len(story_hash("")) == 16


def test_the_split_is_the_same_in_every_version() -> None:
    assert story_hash("Once upon a time.").hex() == "c8981b6ed121be8a09034862226a19f2"
    assert sum(is_held_out(f"Story number {n}.", 1.0) for n in range(10_000)) == 97


def test_given_validation_stories_are_left_out_of_training_and_the_hash_does_not_apply(tmp_path: Path) -> None:
    valid = write_corpus(tmp_path / "valid.jsonl", [STORIES[3].upper(), STORIES[60], "short", STORIES[60]])
    source, data = Listed(STORIES), data_of(valid=(str(valid),), valid_pct=50, shuffle_stories=1)
    held, keys = held_out_stories(source, data, limit=1)
    assert held == [cleaning.clean(STORIES[3].upper())]
    assert keys == {story_hash(STORIES[3]), story_hash(STORIES[60])}
    trained = [story for story, _ in first(98, source, data, held_out=keys)]
    assert trained == [cleaning.clean(story) for n, story in enumerate(STORIES) if n not in (3, 60)]
    assert source.notes == [f'{valid}: JSON lines, stories in the field "text"']


def test_what_classic_cleaning_makes_equal_to_a_held_out_story_is_left_out_too() -> None:
    data = data_of(valid_pct=50, clean="classic")
    plain = next(story for story in STORIES if is_held_out(story, 50))
    twin = next(
        f"{plain} {odd}" for odd in "\u00e4\u00f6\u00fc\u00df\u0434\u0436" if not is_held_out(f"{plain} {odd}", 50)
    )
    source = Listed([plain, twin, *STORIES])
    _, keys = held_out_stories(source, data, limit=3)
    assert cleaning.clean(twin, "classic") == cleaning.clean(plain, "classic")
    assert cleaning.clean(plain, "classic") not in {story for story, _ in first(150, source, data, held_out=keys)}


def test_a_corpus_of_two_stories_holds_one_out() -> None:
    stories = [story for story in STORIES if not is_held_out(story, 1.0)][:2]
    source, data = Listed(stories), data_of()
    held, keys = held_out_stories(source, data, limit=200)
    smallest, other = sorted(stories, key=story_hash)
    assert held == [cleaning.clean(smallest)]
    assert keys == {story_hash(smallest)}
    assert {story for story, _ in first(5, source, data, held_out=keys)} == {cleaning.clean(other)}


def test_the_search_for_held_out_stories_has_an_end() -> None:
    def read(epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        del epoch, cursor
        for n in range(10**9):
            numbers.append(n)
            yield f"{STORIES[n % 2]} Tale {n % 2}.", {"n": n}

    numbers: list[int] = []
    source = Listed([])
    source.read = read  # type: ignore[method-assign]
    held, _ = held_out_stories(source, data_of(valid_pct=0.0001), limit=2)
    assert len(held) == 1
    assert len(numbers) == 800


def refusal(stories: list[str], **values: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        held_out_stories(Listed(stories), data_of(**values), limit=10)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_corpus_that_leaves_nothing_to_hold_out_is_refused_in_one_line(tmp_path: Path) -> None:
    assert refusal([]).startswith("no story survives cleaning")
    assert refusal(["short"] * 3).startswith("no story survives cleaning")
    assert refusal([STORIES[0], STORIES[0].upper()]).startswith("the corpus has one story only")
    valid = write_corpus(tmp_path / "valid.txt", ["too", "short"])
    assert f"no story of --valid {valid} survives" in refusal(STORIES, valid=(str(valid),))
    assert "there is no nowhere" in refusal(STORIES, valid=("nowhere",))


# --- counts and refusals ----------------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    set_aside = next(story for story in STORIES if is_held_out(story, 5.0))
    kept = [story for story in STORIES if not is_held_out(story, 5.0)][:4]
    lines = [json.dumps(story) for story in [*kept, "short", set_aside, kept[0].title()]]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, "{broken", '"' + "x" * (2 << 20) + '"']))
    data = data_of(valid_pct=5.0)
    source = Files([str(tmp_path)])
    list(source.read(0, None))  # what was read before the stream began is not the stream's
    stories = StoryStream(source, data, seed=1, held_out=frozenset({story_hash(kept[0])}))
    assert stories.counts == StoryCounts()
    assert len(list(islice(stories, 3))) == 3
    assert stories.counts == StoryCounts(
        read=7, kept=3, too_short=1, held_out=1, duplicates_of_valid=2, broken=1, too_long=1
    )


def test_a_pass_without_a_story_to_train_on_is_refused_in_one_line() -> None:
    with pytest.raises(CorpusError) as caught:
        next(iter(StoryStream(Listed(["short", "\0" * 50, "also short"]), data_of(), seed=1)))
    assert str(caught.value) == (
        "no story survives cleaning (3 read, 3 under 30 characters, 0 broken, 0 over 1 MiB, 0 held out): "
        "look at --data, --clean and --set min_chars"
    )


def test_stories_are_cleaned_and_short_ones_skipped_by_what_cleaning_leaves() -> None:
    raw = ["\u201cOh!\u201d\0 said the\u200b  caf\u00e9 owl \u2014 and flew.", "\u0434" * 60, "x" * 29, "y" * 30]
    source = Listed(raw)
    light = {story for story, _ in first(3, source, data_of())}
    assert light == {'"Oh!" said the caf\u00e9 owl - and flew.', "\u0434" * 60, "y" * 30}
    classic = {story for story, _ in first(2, source, data_of(clean="classic"))}
    assert classic == {'"Oh!" said the caf owl and flew.', "y" * 30}


# --- the door ---------------------------------------------------------------------------------------------------------


def test_the_door_opens_what_is_named(tmp_path: Path) -> None:
    said: list[str] = []
    path = write_corpus(tmp_path / "stories.jsonl", STORIES)
    assert open_corpus(data_of("bundled"), seed=5, log=said.append).description["seed"] == 5
    assert open_corpus(data_of(("bundled",)), log=said.append).description["kind"] == "bundled"
    assert open_corpus(data_of((str(path),)), log=said.append).description["paths"] == [str(path)]
    assert open_corpus(data_of(str(path)), log=said.append).description["kind"] == "files"
    assert said == []
    with pytest.raises(CorpusError, match="there is no nowhere: --data takes a file"):
        open_corpus(data_of("nowhere"))


def test_descriptions_are_json() -> None:
    description = BundledSource().description
    assert json.loads(json.dumps(description)) == description == {"kind": "bundled", "seed": 0, "stories": 50_000}


def test_importing_the_corpus_loads_no_library_that_is_slow_to_load() -> None:
    heavy = ["datasets", "huggingface_hub", "torch", "pyarrow", "numpy", "transformers"]
    code = f"import sys, storyteller.data.story_stream; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
