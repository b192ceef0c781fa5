"""The disk cache: what comes from it is what would be computed, and no fault of it stops training."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storyteller import cli
from storyteller.config.configs import Config, DataConfig
from storyteller.data import bundled, disk_cache
from storyteller.data.cached_setup import cached_held_out_stories, cached_tokenizer
from storyteller.data.disk_cache import DiskCache
from storyteller.data.held_out_file import HeldOut
from storyteller.data.held_out_stories import held_out_stories
from storyteller.data.local_files import Files
from storyteller.data.sources import BundledSource, StorySource
from storyteller.data.tokenizer import Tokenizer, train_bpe
from storyteller.errors import UsageError
from storyteller.launch import run_plan
from storyteller.system.files import write_bytes

STORIES = [f"Once upon a time, {n} birds sang for {n * n} days." + " La la." * (n % 5) for n in range(40)]
DATA = DataConfig(source="files", valid_pct=20.0, tokenizer_mib=1, vocab_size=290)
GIB = 2**30


@pytest.fixture(autouse=True)
def _small_corpora(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "N_STORIES", 20)
    path = Path("stories.jsonl")
    lines = [json.dumps({"text": story}) for story in STORIES]
    path.write_text("\n".join([*lines[:20], "{broken", '"short"', *lines[20:], '"also short"']) + "\n")


def corpus(kind: str = "files") -> StorySource:
    return BundledSource() if kind == "bundled" else Files(["stories.jsonl"])


def cache(limit_gib: float = 1.0) -> tuple[DiskCache, list[str]]:
    said: list[str] = []
    return DiskCache(int(limit_gib * GIB), said.append), said


def held_out(store: DiskCache | None, source: StorySource | None = None, limit: int = 5, **values: Any) -> HeldOut:
    """The held-out stories of a corpus; `values` are settings that differ from DATA's."""
    return cached_held_out_stories(source or corpus(), DataConfig(**{**vars(DATA), **values}), limit, store)


def pieces() -> list[Path]:
    return sorted(path for path in disk_cache.cache_folder().glob("*/*") if path.name != "about.json")


class Unreadable(Files):
    """Files whose stories may not be asked for."""

    def read(self, epoch: int, cursor: Any) -> Iterator[Any]:
        raise AssertionError((epoch, cursor))


# --- the same results -------------------------------------------------------------------------------------------------


def test_held_out_stories_and_a_tokenizer_come_from_the_cache_as_they_were_made() -> None:
    wanted = held_out_stories(corpus(), DATA, limit=5)
    assert held_out(cache()[0]) == wanted
    assert held_out(cache()[0], Unreadable(["stories.jsonl"])) == wanted
    assert held_out(cache()[0], limit=4) == held_out_stories(corpus(), DATA, limit=4)
    trainings: list[int] = []

    def train() -> Tokenizer:
        trainings.append(1)
        return train_bpe(STORIES, 290, 1 << 20, lambda _: None)

    made = [cached_tokenizer(corpus(), DATA, seed, wanted[1], cache()[0], train) for seed in (1, 1, 2)]
    assert [from_cache for _, from_cache in made] == [False, True, False]
    assert len(trainings) == 2
    assert made[1][0].to_json() == made[0][0].to_json()
    assert made[1][0].encode(STORIES) == made[0][0].encode(STORIES)
    assert (made[1][0].end_of_text, made[1][0].kind) == (made[0][0].end_of_text, "bpe")


def test_the_bundled_stories_are_cached_by_seed() -> None:
    found = {seed: held_out(cache()[0], BundledSource(seed), limit=2) for seed in (0, 1)}
    assert found[0] != found[1]
    assert len(pieces()) == 2
    assert {seed: held_out(cache()[0], BundledSource(seed), limit=2) for seed in (0, 1)} == found
    assert len(pieces()) == 2


def test_every_setting_that_decides_the_result_has_an_entry_of_its_own() -> None:
    held_out(cache()[0])
    changes: list[dict[str, Any]] = [{"clean": "classic"}, {"min_chars": 33}, {"valid_pct": 30.0}]
    for n, values in enumerate(changes, start=1):
        assert held_out(cache()[0], **values) == held_out(None, **values)
        assert len(pieces()) == 1 + n
    for values in ({"shuffle_stories": 3}, {"batching": "pad"}):
        assert held_out(cache()[0], **values) == held_out(None, **values)
        assert len(pieces()) == 4


def test_stories_of_valid_files_are_not_cached() -> None:
    Path("valid.txt").write_text("\n\n".join(STORIES[:3]))
    assert held_out(cache()[0], valid=("valid.txt",)) == held_out(None, valid=("valid.txt",))
    assert pieces() == []


def test_files_that_change_are_another_corpus_even_in_the_middle() -> None:
    before = held_out(cache()[0])
    path = Path("stories.jsonl")
    path.write_text(path.read_text().replace("birds", "birdz"))
    os.utime(path, ns=(1, 1))
    changed = held_out(cache()[0])
    assert changed == held_out(None)
    assert changed != before
    assert len(pieces()) == 2


def test_what_was_read_from_a_file_that_changed_meanwhile_is_not_kept() -> None:
    class Touched(Files):
        def read(self, epoch: int, cursor: Any) -> Iterator[Any]:
            yield from super().read(epoch, cursor)
            os.utime("stories.jsonl", ns=(1, 1))

    source = Touched(["stories.jsonl"])
    assert cached_held_out_stories(source, DATA, 40, cache()[0]) == held_out_stories(corpus(), DATA, limit=40)
    assert pieces() == []


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "swapped", "gone"])
def test_a_damaged_piece_is_dropped_and_made_again(harm: str) -> None:
    wanted = held_out(cache()[0])
    held_out(cache()[0], limit=4)
    kept = pieces()
    whole = [path.read_bytes() for path in kept]
    harmed = {
        "flipped": bytes([*whole[0][:-9], whole[0][-9] ^ 1, *whole[0][-8:]]),
        "cut": whole[0][:-30],
        "empty": b"",
        "swapped": whole[0][:65] + whole[1][65:],
    }
    for path in kept:
        path.unlink() if harm == "gone" else path.write_bytes(harmed[harm])
    assert held_out(cache()[0]) == wanted
    assert held_out(cache()[0], limit=4) == held_out(None, limit=4)
    assert [path.read_bytes() for path in pieces()] == whole


def test_a_sound_piece_of_other_contents_is_made_again() -> None:
    wanted = held_out(cache()[0])
    (piece,) = pieces()
    store = cache()[0]
    entry = store.entry("held-out", {})
    entry.path = piece.parent
    entry.write(piece.name, b'{"stories": 1, "keys": 1}\n[]\n')
    assert entry.read(piece.name) == b'{"stories": 1, "keys": 1}\n[]\n'
    assert held_out(cache()[0]) == wanted


def test_a_full_disk_is_said_once_and_training_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, contents: bytes) -> None:
        if path.name != "about.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_bytes(path, contents)

    monkeypatch.setattr(disk_cache, "write_bytes", write)
    store, said = cache()
    for limit in (5, 4):
        assert held_out(store, limit=limit) == held_out(None, limit=limit)
    assert said == ["cache: nothing more is stored (the disk is full); training continues without it"]
    assert pieces() == []


def test_a_cache_folder_that_cannot_be_made_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    store, said = cache()
    for limit in (5, 4):
        assert held_out(store, limit=limit) == held_out(None, limit=limit)
    assert len(said) == 1
    assert "file/storyteller/data-1: Not a directory); training continues without it" in said[0]


def test_a_killed_writer_leaves_nothing_in_the_way() -> None:
    wanted = held_out(cache()[0])
    (piece,) = pieces()
    piece.unlink()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (piece.parent / f".{piece.name}.{dead.pid}-abcdef.tmp").write_bytes(b"half of it")
    assert held_out(cache()[0]) == wanted
    assert pieces() == [piece]


def test_past_the_limit_the_entry_used_longest_ago_goes() -> None:
    held_out(cache()[0])
    first = pieces()[0].parent
    held_out(cache()[0], min_chars=40)
    second = next(path.parent for path in pieces() if path.parent != first)
    size = sum(path.stat().st_size for path in disk_cache.cache_folder().rglob("*") if path.is_file())
    long_ago = time.time() - 1000
    os.utime(second / "about.json", (long_ago, long_ago))
    store, said = cache((size + 400) / GIB)
    assert held_out(store, min_chars=45) == held_out(None, min_chars=45)
    entries = {path.parent for path in pieces()}
    assert first in entries
    assert second not in entries
    assert len(entries) == 2
    assert not list(disk_cache.cache_folder().glob(".*"))
    assert said == []
    shutil.rmtree(first)
    store, said = cache(500 / GIB)
    assert held_out(store) == held_out(None)
    assert said == [
        "cache: the limit of 4.66e-07 GiB is reached (--set cache_gib raises it); training continues without it"
    ]


def test_a_hit_counts_as_a_use() -> None:
    held_out(cache()[0])
    about = pieces()[0].parent / "about.json"
    os.utime(about, (1, 1))
    held_out(cache()[0])
    assert about.stat().st_mtime > 1


# --- the code that decides --------------------------------------------------------------------------------------------


def test_each_pattern_of_deciding_sources_must_match_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    disk_cache._code_hash.cache_clear()
    assert len(disk_cache._code_hash()) == 32
    for pattern in disk_cache._DECIDING_SOURCES:
        disk_cache._code_hash.cache_clear()
        moved = [f"moved/{each}" if each == pattern else each for each in disk_cache._DECIDING_SOURCES]
        with monkeypatch.context() as patch:
            patch.setattr(disk_cache, "_DECIDING_SOURCES", moved)
            with pytest.raises(RuntimeError, match=f"matches 'moved/{pattern}'".replace("*", r"\*")):
                disk_cache.open_cache(1.0, print)
    disk_cache._code_hash.cache_clear()


def test_a_package_in_an_archive_has_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk_cache._code_hash.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(disk_cache, "__file__", str(tmp_path / "storyteller.zip" / "data" / "disk_cache.py"))
        assert disk_cache.open_cache(1.0, print) is None
    disk_cache._code_hash.cache_clear()


# --- the option -------------------------------------------------------------------------------------------------------


def test_no_cache_neither_reads_nor_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def create_run(_root: Path, _name: str | None, config: Config, *_: object) -> None:
        seen.append(config)
        raise UsageError("enough", "stop")

    monkeypatch.setattr(run_plan, "create_run", create_run)
    for words in (["--no-cache"], [], ["--set", "cache_gib=0.5"]):
        with pytest.raises(SystemExit):
            cli.main(["train", "--data", "bundled", "--wandb", "off", *words])
    assert [config.data.cache_gib for config in seen] == [0.0, 8.0, 0.5]
    assert disk_cache.open_cache(0.0, print) is None
    assert disk_cache.open_cache(0.5, print) is not None
    assert held_out(None) == held_out_stories(corpus(), DATA, limit=5)
    assert not disk_cache.cache_folder().exists()
