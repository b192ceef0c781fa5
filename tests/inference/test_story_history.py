"""The history of stories: each kept whole, whatever writes at the same time and whatever was written before."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storyteller.config.configs import SamplingParams
from storyteller.errors import DiskError, RunError
from storyteller.inference import story_history
from storyteller.inference.story_history import StoryRecord
from tests.support.ptys import PACKAGE_PARENT

SAMPLE = SamplingParams(
    temperature=0.7, top_k=40, top_p=0.9, min_p=0.05, no_repeat_ngram=3, max_tokens=50, seed=7, stop=("\n", "The end")
)


def told(prompt: str = "Once", text: str = " there was a fox.", **changes: object) -> StoryRecord:
    return dataclasses.replace(StoryRecord("first@120", prompt, text, SAMPLE, 6, 0.25, finished=True), **changes)  # type: ignore[arg-type]


def test_what_was_kept_is_what_is_read_the_newest_first() -> None:
    assert story_history.recent(10) == []
    first = told()
    second = told("A \x1b\u202e\ud800", "\u2028 dog\r\n\x00", runs_dir="/runs", compute_type="int8", goes_on=True)
    story_history.keep(first)
    story_history.keep(second)
    assert story_history.recent(10) == [second, first]
    assert story_history.recent(1) == [second]
    assert story_history.recent(0) == []


def test_a_line_has_all_that_it_takes_to_tell_the_story_again() -> None:
    story_history.keep(told(id="abcdefgh", time="2026-01-02T03:04:05Z"))
    line = json.loads(story_history.stories_path().read_text())
    assert line["id"] == "abcdefgh"
    assert (line["time"], line["model"], line["seed"]) == ("2026-01-02T03:04:05Z", "first@120", 7)
    assert (line["prompt"], line["text"], line["tokens"], line["seconds"]) == ("Once", " there was a fox.", 6, 0.25)
    assert line["sample"] == {
        "max_tokens": 50,
        "temperature": 0.7,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.05,
        "repetition_penalty": 1.0,
        "no_repeat_ngram": 3,
        "beams": 1,
        "seed": 7,
        "stop": ["\n", "The end"],
    }


def test_the_file_is_the_user_s_alone_and_lies_in_the_data_folder() -> None:
    story_history.keep(told())
    assert story_history.stories_path() == Path(os.environ["XDG_DATA_HOME"]) / "storyteller" / "stories.jsonl"
    assert story_history.stories_path().stat().st_mode & 0o077 == 0


def test_stories_are_found_by_their_words_their_model_and_their_id() -> None:
    fox, dog = told(), told("A Dog", " barked.", model="second@9")
    story_history.keep(fox)
    story_history.keep(dog)
    assert story_history.recent(5, "FOX") == [fox]
    assert story_history.recent(5, "a dog barked") == [dog]
    assert story_history.recent(5, "second@") == [dog]
    assert story_history.recent(5, fox.id) == [fox]
    assert story_history.recent(5, "cat") == []


def test_a_story_is_found_by_its_id_its_beginning_or_as_the_latest() -> None:
    stories = [told(id="fexaaaaa"), told(id="fexbbbbb"), told(id="dagaaaaa")]
    for each in stories:
        story_history.keep(each)
    assert story_history.find("fexbbbbb") == stories[1]
    assert story_history.find("dag") == stories[2]
    assert story_history.find("latest") == stories[2]
    with pytest.raises(RunError, match="fex could be fexbbbbb, fexaaaaa: give more of the id"):
        story_history.find("fex")
    for missing in ("cat", "", "FOX-1", '"'):
        with pytest.raises(RunError, match="there is no story"):
            story_history.find(missing)


def test_ids_differ_and_are_easy_to_type() -> None:
    ids = {told().id for _ in range(2000)}
    assert len(ids) == 2000
    assert all(len(one) == 8 and not set(one) & set("l1o0") for one in ids)


BROKEN = [
    b"",
    b"\x00\xff\xfe",
    b"{",
    b"[]",
    b"7",
    b'{"id": "abcdefgh"}',
    b'{"sample": [], "seed": 1}',
    json.dumps(told().to_json() | {"seed": "7"}).encode(),
    json.dumps(told().to_json() | {"sample": {"temperature": "hot"}}).encode(),
    json.dumps(told().to_json() | {"sample": {"temperature": -4}}).encode(),
    json.dumps(told().to_json() | {"text": 4}).encode(),
    json.dumps(told().to_json() | {"rows": 10**9}).encode(),
    json.dumps(told().to_json() | {"id": "\x1b]52"}).encode(),
    b"[" * 100_000,
]


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_passed_over(line: bytes) -> None:
    before, after = told(), told("A dog")
    story_history.keep(before)
    with story_history.stories_path().open("ab") as file:
        file.write(line + b"\n")
    story_history.keep(after)
    assert story_history.recent(10) == [after, before]


def test_what_a_later_version_has_added_is_left_out() -> None:
    plain = told().to_json()
    kept = plain | {"mood": "merry", "sample": plain["sample"] | {"mirostat": 2}}
    story_history.keep(told("A dog"))
    with story_history.stories_path().open("a") as file:
        file.write(json.dumps(kept) + "\n")
    assert story_history.recent(1)[0].whole == "Once there was a fox."


def test_a_line_that_a_kill_tore_costs_that_story_alone() -> None:
    before, after = told(), told("A dog")
    story_history.keep(before)
    with story_history.stories_path().open("ab") as file:
        file.write(b'{"id": "torn')
    assert story_history.recent(10) == [before]
    story_history.keep(after)
    assert story_history.recent(10) == [after, before]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.text(st.characters(), max_size=40).map(lambda text: told(text=text)), st.binary(max_size=60)))
)
def test_whatever_else_is_in_the_file_every_story_kept_is_read(entries: list[StoryRecord | bytes]) -> None:
    story_history.stories_path().unlink(missing_ok=True)
    for entry in entries:
        if isinstance(entry, StoryRecord):
            story_history.keep(entry)
        else:
            story_history.stories_path().parent.mkdir(parents=True, exist_ok=True)
            with story_history.stories_path().open("ab") as file:
                file.write(entry)
    assert story_history.recent(100) == [entry for entry in reversed(entries) if isinstance(entry, StoryRecord)]


def test_processes_that_keep_stories_at_once_lose_none() -> None:
    code = (
        "import sys; from storyteller.inference import story_history\n"
        "from storyteller.config.configs import SamplingParams\n"
        "for n in range(60):\n"
        "    text = f'{sys.argv[1]}.{n} ' * (1 + n % 7 * 900)\n"
        "    story_history.keep(story_history.StoryRecord('m', 'p', text, SamplingParams(seed=n), 1, 0.1))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], env={**os.environ, "PYTHONPATH": PACKAGE_PARENT})
        for n in range(4)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    kept = [story.text for story in story_history.recent(1000)]
    wanted = {f"{writer}.{n} " * (1 + n % 7 * 900) for writer in range(4) for n in range(60)}
    assert len(kept) == 240
    assert set(kept) == wanted


def test_the_newest_of_a_huge_file_are_read_without_the_rest() -> None:
    story_history.keep(told("Old"))
    with story_history.stories_path().open("ab") as file:
        file.write(b"x" * (36 << 20) + b"\n")
    new = told("New")
    story_history.keep(new)
    tracemalloc.start()
    assert story_history.recent(1) == [new]
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    assert [story.prompt for story in story_history.recent(5)] == ["New", "Old"]


def test_a_batch_is_found_whole_or_not_at_all() -> None:
    alone = told("alone")
    rows = [told(str(row), batch="b1", row=row, rows=3) for row in range(3)]
    for each in (rows[0], alone, rows[1], rows[2]):
        story_history.keep(each)
    assert story_history.batch_of(alone) == [alone]
    assert story_history.batch_of(rows[1]) == rows
    assert story_history.batch_of(told(batch="b2", row=0, rows=2)) is None


def test_a_story_that_cannot_be_kept_is_one_line() -> None:
    story_history.stories_path().mkdir(parents=True)
    with pytest.raises(DiskError, match="the story is not kept: is a directory"):
        story_history.keep(told())
    with pytest.raises(DiskError, match="the stories cannot be read: is a directory"):
        story_history.recent(1)


def test_a_full_disk_takes_nothing_that_was_there() -> None:
    kept = told()
    story_history.keep(kept)
    size = story_history.stories_path().stat().st_size
    code = (
        "import resource, signal; from storyteller.inference import story_history\n"
        "from storyteller.config.configs import SamplingParams\n"
        "from storyteller.errors import DiskError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size} + 100, {size} + 100))\n"
        "try: story_history.keep(story_history.StoryRecord('m', 'p', 't', SamplingParams(), 1, 0.1))\n"
        "except DiskError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the story is not kept: file too large")
    assert story_history.recent(10) == [kept]
    later = told("A dog")
    story_history.keep(later)
    assert story_history.recent(10) == [later, kept]
