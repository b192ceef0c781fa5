"""The cache of tokens: with it or without, the same batches bit for bit; and whatever befalls it, training goes on."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller import cli
from storyteller.config.configs import Config, DataConfig
from storyteller.data import bundled, disk_cache, token_cache
from storyteller.data.batches import Batches
from storyteller.data.cached_setup import cached_held_out_stories, cached_tokenizer
from storyteller.data.disk_cache import DiskCache
from storyteller.data.held_out_stories import held_out_stories
from storyteller.data.local_files import Files
from storyteller.data.sources import BundledSource, StorySource
from storyteller.data.story_stream import StoryStream
from storyteller.data.token_cache import CachedStories, Chunk, Kept
from storyteller.data.tokenizer import Tokenizer, train_bpe
from storyteller.errors import UsageError
from storyteller.launch import run_plan
from storyteller.system.files import write_bytes

STORIES = [f"Once upon a time, {n} birds sang for {n * n} days." + " La la." * (n % 5) for n in range(40)]
TOKENIZER = train_bpe(STORIES, 300, 1 << 20, lambda _: None)
DATA = DataConfig(source="files", shuffle_stories=10, valid_pct=1.0)
GIB = 2**30

Step = tuple[list[tuple[bytes, bytes]], int, str]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "_CHUNK_STORIES", 7)
    monkeypatch.setattr(bundled, "N_STORIES", 9)


def corpus(kind: str) -> StorySource:
    if kind == "bundled":
        return BundledSource()
    path = Path("tales.jsonl")
    if not path.exists():
        lines = [json.dumps({"text": story}) for story in STORIES]
        path.write_text("\n".join([*lines[:20], "{broken", '"short"', *lines[20:], '"also short"']) + "\n")
    return Files([str(path)])


def store(limit_gib: float = 1.0) -> tuple[DiskCache, list[str]]:
    said: list[str] = []
    return DiskCache(int(limit_gib * GIB), said.append), said


class Reader:
    """One process's steps, with a cache (`kept`) or without."""

    def __init__(
        self,
        source: StorySource,
        kept: DiskCache | None,
        *,
        batching: str = "pack",
        position: dict[str, Any] | None = None,
        rank: int = 0,
        processes: int = 1,
        data: DataConfig = DATA,
        tokenizer: Tokenizer = TOKENIZER,
        seed: int = 3,
    ) -> None:
        at, encode = (position["stories"] if position else None), None
        self.stories: StoryStream | CachedStories
        if kept is None:
            self.stories = StoryStream(source, data, seed=seed, position=at)
        else:
            self.stories = CachedStories(source, data, tokenizer, kept, seed=seed, held_out=frozenset(), position=at)
            encode = self.stories.encode
        batches = Batches(
            self.stories,
            tokenizer,
            batching=batching,
            context=24,
            batch_size=3,
            accumulate=2,
            position=position,
            rank=rank,
            processes=processes,
            encode=encode,
        )
        self._steps = iter(batches)

    def take(self, count: int) -> list[Step]:
        """The next steps: their batches' bytes, the whole step's targets, and the position as JSON."""
        taken = []
        for step in itertools.islice(self._steps, count):
            batches = [(batch.inputs.tobytes(), batch.targets.tobytes()) for batch in step.batches]
            taken.append((batches, step.n_targets, json.dumps(step.position, sort_keys=True)))
        return taken

    def close(self) -> None:
        self._steps.close()  # type: ignore[attr-defined]
        self.stories.close()


def steps(count: int, source: StorySource, kept: DiskCache | None, **how: Any) -> list[Step]:
    reader = Reader(source, kept, **how)
    try:
        return reader.take(count)
    finally:
        reader.close()


def pieces() -> list[Path]:
    """The chunks of tokens in the cache."""
    return sorted(path for path in disk_cache.cache_folder().glob("tokens-*/*") if path.name.isdigit())


class Unreadable(Files):
    """Files whose stories may not be asked for."""

    def read(self, epoch: int, cursor: Any) -> Iterator[Any]:
        raise AssertionError((epoch, cursor))


# --- the same batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "batching"), [("files", "pack"), ("files", "begin"), ("files", "pad"), ("bundled", "pack")]
)
def test_filling_the_cache_and_reading_it_give_the_batches_of_neither(kind: str, batching: str) -> None:
    count = {"pack": 60, "begin": 60, "pad": 20}[batching] if kind == "files" else 80
    plain = steps(count, corpus(kind), None, batching=batching)
    assert json.loads(plain[-1][2])["stories"]["epoch"] >= (2 if kind == "files" else 1)
    assert steps(count, corpus(kind), store()[0], batching=batching) == plain
    kept = pieces()
    assert len(kept) >= (6 if kind == "files" else 2)
    assert steps(count, corpus(kind), store()[0], batching=batching) == plain
    assert set(pieces()) >= set(kept)


def test_what_is_kept_is_not_read_again_and_is_counted_and_said_all_the_same() -> None:
    plain = steps(40, corpus("files"), store()[0])
    source = Unreadable(["tales.jsonl"])
    assert steps(40, source, store()[0]) == plain
    assert source.notes == ['tales.jsonl: JSON lines, stories in the field "text"', *_said(corpus("files"))]
    whole = StoryStream(corpus("files"), DATA, seed=3)
    cached = CachedStories(source, DATA, TOKENIZER, store()[0], seed=3, held_out=frozenset())
    assert _two_passes(cached) == _two_passes(whole)
    assert cached.counts == whole.counts
    assert (whole.counts.broken, whole.counts.too_short) == (2, 4)


def _two_passes(stories: StoryStream | CachedStories) -> list[tuple[int, dict[str, Any]]]:
    passes: Iterator[Any] = itertools.takewhile(lambda item: item[1]["epoch"] < 2, stories)
    return [(len(story), position) for story, position in passes]


def _said(source: StorySource) -> list[str]:
    list(source.read(0, None))
    return source.notes[1:]


@pytest.mark.parametrize(("kind", "batching"), [("files", "pack"), ("files", "pad"), ("bundled", "pack")])
def test_a_resume_with_the_cache_goes_on_from_one_without_and_the_other_way_round(kind: str, batching: str) -> None:
    count = 25 if kind == "files" else 7
    plain = steps(count, corpus(kind), None, batching=batching)
    for cut in (1, 2, 3, 5, 13)[: 5 if kind == "files" else 3]:
        position = json.loads(plain[cut - 1][2])
        with_cache = steps(count - cut, corpus(kind), store()[0], batching=batching, position=position)
        assert with_cache == plain[cut:], cut
        assert with_cache == steps(count - cut, corpus(kind), None, batching=batching, position=position), cut
    assert pieces()


def test_a_position_amid_a_chunk_of_another_runs_shuffle_is_found() -> None:
    steps(20, corpus("files"), store()[0])
    other = DataConfig(source="files", shuffle_stories=4)
    plain = steps(30, corpus("files"), None, data=other, seed=9)
    for cut in (1, 4, 7):
        position = json.loads(plain[cut - 1][2])
        source = Unreadable(["tales.jsonl"])
        assert steps(30 - cut, source, store()[0], data=other, seed=9, position=position) == plain[cut:]


@pytest.mark.parametrize("batching", ["pack", "pad"])
def test_each_of_several_processes_reads_its_share_as_without_the_cache(batching: str) -> None:
    readers = [
        Reader(corpus("files"), kept, batching=batching, rank=rank, processes=3)
        for rank in range(3)
        for kept in (None, store()[0])
    ]
    for _ in range(8):  # in turn, so that one writes while the others read
        taken = [reader.take(4) for reader in readers]
        for plain, cached in zip(taken[::2], taken[1::2], strict=True):
            assert cached == plain
    for reader in readers:
        reader.close()


@settings(max_examples=8, deadline=None)
@given(
    chunk=st.integers(1, 45),
    shuffle=st.integers(1, 45),
    cuts=st.lists(st.integers(1, 24), min_size=1, max_size=3, unique=True).map(sorted),
    cached=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_any_chunks_any_blocks_and_any_stops_with_the_cache_or_without_give_the_same(
    chunk: int, shuffle: int, cuts: list[int], cached: list[bool]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_cache, "_CHUNK_STORIES", chunk)
        data = DataConfig(source="files", shuffle_stories=shuffle)
        plain = steps(25, corpus("files"), None, data=data)
        pieces: list[Step] = []
        for start, end, is_cached in zip([0, *cuts], [*cuts, 25], cached, strict=False):
            position = json.loads(pieces[-1][2]) if pieces else None
            kept = store()[0] if is_cached else None
            pieces += steps(end - start, corpus("files"), kept, data=data, position=position)
        assert pieces == plain


# --- what befalls it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "swapped", "gone"])
def test_a_damaged_chunk_is_dropped_and_made_again(harm: str) -> None:
    plain = steps(20, corpus("files"), store()[0])
    kept = pieces()
    whole = [path.read_bytes() for path in kept]
    harmed = {
        "flipped": bytes([*whole[2][:-9], whole[2][-9] ^ 1, *whole[2][-8:]]),
        "cut": whole[2][:-30],
        "empty": b"",
        "swapped": whole[3],
    }
    kept[2].unlink() if harm == "gone" else kept[2].write_bytes(harmed[harm])
    assert steps(20, corpus("files"), store()[0]) == plain
    assert [path.read_bytes() for path in pieces()] == whole


def test_a_full_disk_is_said_once_and_training_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = steps(40, corpus("files"), None)
    written: list[Path] = []

    def write(path: Path, contents: bytes) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        write_bytes(path, contents)

    monkeypatch.setattr(disk_cache, "write_bytes", write)
    kept, said = store()
    assert steps(40, corpus("files"), kept) == plain
    assert said == ["cache: nothing more is kept (the disk is full); training goes on without"]
    assert len(pieces()) == 2
    assert steps(40, corpus("files"), store()[0]) == plain


def test_a_cache_folder_that_cannot_be_made_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kept, said = store()
    assert steps(20, corpus("files"), kept) == steps(20, corpus("files"), None)
    assert len(said) == 1
    assert "file/storyteller/data-1: Not a directory); training goes on without" in said[0]


def test_of_two_runs_at_once_one_writes_and_both_read_the_same() -> None:
    plain = steps(30, corpus("files"), None)
    one, other = Reader(corpus("files"), store()[0]), Reader(corpus("files"), store()[0])
    taken: list[list[Step]] = [[], []]
    for _ in range(15):
        taken[0] += one.take(2)
        taken[1] += other.take(2)
    assert taken == [plain, plain]
    one.close()
    other.close()
    assert len(pieces()) == 6


def test_a_killed_writer_leaves_whole_chunks_and_nothing_in_the_way() -> None:
    corpus("files")
    code = "from tests.data.test_disk_cache import *\nwrite, tokens._CHUNK_STORIES = cache.write_bytes, 7\n"
    code += "cache.write_bytes = lambda *what: time.sleep(600) if len(pieces()) == 3 else write(*what)\n"
    code += "reader = Reader(Files(['tales.jsonl']), store()[0])\nreader.take(4)\ntime.sleep(600)\n"
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    writer = subprocess.Popen([sys.executable, "-c", code], env=where)
    try:
        ending = time.monotonic() + 240
        while len(pieces()) < 3 and time.monotonic() < ending:
            time.sleep(0.05)
        entry = pieces()[0].parent
        waiting = Reader(corpus("files"), store()[0])
        assert waiting.take(30) == steps(30, corpus("files"), None)
        waiting.close()
        assert len(pieces()) == 3  # the one that lives is the one that writes
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    (entry / f".00000005.{writer.pid}-abcdef.tmp").write_bytes(b"half of a chu")
    assert steps(30, corpus("files"), store()[0]) == steps(30, corpus("files"), None)
    assert len(pieces()) == 6
    assert not list(entry.glob(".*"))


def test_past_the_limit_the_entry_used_longest_ago_goes() -> None:
    fewer = DataConfig(source="files", shuffle_stories=10, min_chars=40)
    least = DataConfig(source="files", shuffle_stories=10, min_chars=45)
    steps(20, corpus("files"), store()[0])
    first = pieces()[0].parent
    steps(20, corpus("files"), store()[0], data=fewer)
    second = next(path.parent for path in pieces() if path.parent != first)
    size = sum(path.stat().st_size for path in disk_cache.cache_folder().rglob("*") if path.is_file())
    long_ago = time.time() - 1000
    os.utime(second / "about.json", (long_ago, long_ago))
    kept, said = store((size + 400) / GIB)
    assert steps(20, corpus("files"), kept, data=least) == steps(20, corpus("files"), None, data=least)
    assert {path.parent for path in pieces()} >= {first}
    assert second not in {path.parent for path in pieces()}
    assert said == []
    kept, said = store(5000 / GIB)
    assert steps(20, corpus("files"), kept) == steps(20, corpus("files"), None)
    assert said == []  # all of it was there
    shutil.rmtree(first)
    kept, said = store(2500 / GIB)
    assert steps(20, corpus("files"), kept) == steps(20, corpus("files"), None)
    assert said == ["cache: it has its 2.33e-06 GiB (--set cache_gib allows more); training goes on without"]
    assert 0 < len(pieces()) < 6


def test_files_that_change_are_another_corpus_even_in_the_middle_and_within_a_run() -> None:
    source = corpus("files")
    before = steps(20, source, store()[0])
    path = Path("tales.jsonl")
    path.write_text(path.read_text().replace("11 birds", "12 birds"))
    os.utime(path, ns=(1, 1))
    changed = steps(20, corpus("files"), store()[0])
    assert changed == steps(20, corpus("files"), None)
    assert changed != before
    shutil.rmtree(disk_cache.cache_folder())
    kept, said = store()
    reader = Reader(corpus("files"), kept)
    path.touch()
    reader.take(20)
    reader.close()
    assert pieces() == []
    assert said == [
        "cache: the files of --data have changed since the run began, so no more is kept; training goes on without"
    ]


def test_every_setting_that_decides_the_tokens_has_an_entry_of_its_own() -> None:
    other = train_bpe(STORIES, 280, 1 << 20, lambda _: None)
    steps(4, corpus("files"), store()[0])
    count = len(list(disk_cache.cache_folder().iterdir()))
    decide: list[dict[str, Any]] = [
        {"data": DataConfig(source="files", shuffle_stories=10, clean="classic")},
        {"data": DataConfig(source="files", shuffle_stories=10, min_chars=33)},
        {"data": DataConfig(source="files", shuffle_stories=10, valid_pct=2.0)},
        {"tokenizer": other},
    ]
    for n, how in enumerate(decide, start=1):
        assert steps(20, corpus("files"), store()[0], **how) == steps(20, corpus("files"), None, **how)
        assert len(list(disk_cache.cache_folder().iterdir())) == count + n
    others: list[dict[str, Any]] = [
        {"seed": 8},
        {"data": DataConfig(source="files", shuffle_stories=3)},
        {"batching": "pad"},
    ]
    for how in others:
        assert steps(20, corpus("files"), store()[0], **how) == steps(20, corpus("files"), None, **how)
        assert len(list(disk_cache.cache_folder().iterdir())) == count + 4


# --- the form of a chunk ----------------------------------------------------------------------------------------------

IDS = st.lists(st.lists(st.integers(0, 299), max_size=6), max_size=6)


@settings(max_examples=30, deadline=None)
@given(ids=IDS, last=st.booleans(), wide=st.booleans())
def test_a_chunk_reads_as_it_was_written(ids: list[list[int]], last: bool, wide: bool) -> None:
    chunk = Chunk({"offset": 3}, last=last, counts={"read": 9}, notes=["a note \u2019"])
    for n, each in enumerate(ids):
        chunk.add(Kept(n + 40, ids=np.array(each, dtype="<u4" if wide else "<u2")), {"offset": 5 + n, "state": [n]})
    read = Chunk.from_bytes(chunk.to_bytes(), 300)
    assert read is not None
    assert (read.begin, read.cursors, read.last) == (chunk.begin, chunk.cursors, last)
    assert (read.counts, read.notes) == ({"read": 9}, ["a note \u2019"])
    assert [[int(token) for token in story.ids or ()] for story in map(_listed, read.stories)] == ids
    assert [len(story) for story in read.stories] == [n + 40 for n in range(len(ids))]
    assert any(299 in each for each in ids) == (Chunk.from_bytes(chunk.to_bytes(), 299) is None)


def _listed(story: Kept) -> Any:
    return type("Listed", (), {"ids": [] if story.ids is None else story.ids.tolist()})


@settings(max_examples=60, deadline=None)
@given(junk=st.binary(max_size=60), at=st.integers(0, 400), cut=st.integers(0, 400))
def test_what_is_no_chunk_is_refused_not_raised(junk: bytes, at: int, cut: int) -> None:
    chunk = Chunk(None, counts={"read": 2})
    chunk.add(Kept(40, ids=np.arange(5, dtype="<u2")), {"offset": 5})
    body = chunk.to_bytes()
    assert Chunk.from_bytes(junk, 300) is None
    Chunk.from_bytes(body[:at] + junk + body[at:], 300)
    if cut < len(body):
        assert Chunk.from_bytes(body[:cut], 300) is None


# --- what a run prepares ----------------------------------------------------------------------------------------------


def test_held_out_stories_and_a_tokenizer_come_from_the_cache_as_they_were_made() -> None:
    data = DataConfig(source="files", valid_pct=20.0, tokenizer_mib=1, vocab_size=290)
    wanted = held_out_stories(corpus("files"), data, limit=5)
    assert cached_held_out_stories(corpus("files"), data, 5, store()[0]) == wanted
    assert cached_held_out_stories(Unreadable(["tales.jsonl"]), data, 5, store()[0]) == wanted
    assert cached_held_out_stories(corpus("files"), data, 4, store()[0]) == held_out_stories(corpus("files"), data, limit=4)
    trainings: list[int] = []

    def train() -> Tokenizer:
        trainings.append(1)
        return train_bpe(STORIES, 290, 1 << 20, lambda _: None)

    made = [cached_tokenizer(corpus("files"), data, seed, wanted[1], store()[0], train) for seed in (1, 1, 2)]
    assert [from_cache for _, from_cache in made] == [False, True, False]
    assert len(trainings) == 2
    assert made[1][0].to_json() == made[0][0].to_json()
    assert made[1][0].encode(STORIES) == made[0][0].encode(STORIES)
    assert (made[1][0].end_of_text, made[1][0].kind) == (made[0][0].end_of_text, "bpe")


def test_no_cache_neither_reads_nor_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def plan(_root: Path, _name: str | None, config: Config, *_: object) -> None:
        seen.append(config)
        raise UsageError("enough", "stop")

    monkeypatch.setattr(run_plan, "plan", plan)
    for words in (["--no-cache"], [], ["--set", "cache_gib=0.5"]):
        with pytest.raises(SystemExit):
            cli.main(["train", "--data", "bundled", "--wandb", "off", *words])
    assert [config.data.cache_gib for config in seen] == [0.0, 8.0, 0.5]
    assert disk_cache.open_cache(0.0, print) is None
    assert disk_cache.open_cache(0.5, print) is not None
    assert cached_held_out_stories(corpus("files"), DATA, 2, None) == held_out_stories(corpus("files"), DATA, limit=2)
    assert not disk_cache.cache_folder().exists()
