"""Local stories in every format: what is read, what is left out, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from storyteller.data.file_formats import STORY_BYTES
from storyteller.data.local_files import Files
from storyteller.errors import CorpusError

PLAIN = ["jsonl", "ndjson", "lines.json", "json", "data.json", "txt", "marks.txt", "csv", "only.csv", "parquet"]
FORMATS = [*PLAIN, *(f"{name}.gz" for name in PLAIN)]

STORIES = [
    f'Tale {n}: "Hello, {name}," said the \\ owl.\nThen {name} went home; it was caf\u00e9 time \U0001f989.'
    for n, name in enumerate(["Tim", "Sue", "Ben", "Mia", "Tom", "Lily", "Max", "Anna", "Sam"] * 4)
]


def write_corpus(path: Path, stories: list[str]) -> Path:
    """The stories in the format that the name ends in."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        table = pyarrow.table({"id": list(range(len(stories))), "text": stories})
        plain = path.with_name(name)
        parquet.write_table(table, plain, row_group_size=7)
        content = plain.read_bytes()
    elif name.endswith(".csv"):
        plain = path.with_name(name)
        with plain.open("w", newline="", encoding="utf-8") as file:
            rows = [[story] if "only" in name else ["x", story] for story in stories]
            csv.writer(file).writerows([["line"] if "only" in name else ["id", "text"], *rows])
        content = plain.read_bytes()
    elif name.endswith(".txt"):
        content = ("\n<|endoftext|>\n" if "marks" in name else "\n \n\n").join(stories).encode()
    elif name.endswith("lines.json") or not name.endswith(".json"):
        content = "".join(json.dumps({"n": 1, "text": story}) + "\n" for story in stories).encode()
    elif "data" in name:
        content = json.dumps(
            {"version": {"a": [1]}, "data": [{"story": s, "tags": ["a", "]"]} for s in stories]}
        ).encode()
    else:
        content = json.dumps(stories, indent=1, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def stories_of(*paths: Path | str) -> list[str]:
    return [story.strip() for story, _ in Files([str(path) for path in paths]).read(0, None)]


def refusal(*paths: Path | str) -> str:
    """The one line with which a corpus is refused, while it is opened or read."""
    with pytest.raises(CorpusError) as caught:
        stories_of(*paths)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_back_its_stories(kind: str, tmp_path: Path) -> None:
    assert stories_of(write_corpus(tmp_path / f"stories.{kind}", STORIES)) == STORIES


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("jsonl", 'JSON lines, stories in the field "text"'),
        ("lines.json", 'JSON lines, stories in the field "text"'),
        ("json", "a JSON array, each a string"),
        ("data.json.gz", 'a JSON array, stories in the field "story"'),
        ("txt", "stories separated by blank lines"),
        ("marks.txt.gz", "stories separated by <|endoftext|>"),
        ("csv", 'CSV, stories in the column "text"'),
        ("only.csv", 'CSV, stories in its only column "line"'),
        ("parquet.gz", 'parquet, stories in the column "text"'),
    ],
)
def test_the_note_says_which_format_was_found(kind: str, note: str, tmp_path: Path) -> None:
    path = write_corpus(tmp_path / f"stories.{kind}", STORIES)
    source = Files([str(path)])
    assert source.notes == [f"{path}: {note}"]
    assert source.description["formats"] == [note]


@pytest.mark.parametrize("kind", FORMATS)
def test_reading_from_any_cursor_gives_the_rest(kind: str, tmp_path: Path) -> None:
    paths = [str(write_corpus(tmp_path / f"{name}.{kind}", STORIES[:20])) for name in ("a", "b")]
    source = Files(paths)
    whole = list(source.read(0, None))
    assert len(whole) == 40
    for index, (_, cursor) in enumerate(whole):
        assert list(Files(paths).read(1, json.loads(json.dumps(cursor)))) == whole[index + 1 :]


# Without controls: a file with many of them is refused as a binary one.
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stories=st.lists(st.lists(LINE, min_size=1, max_size=3).map("\n".join), min_size=1, max_size=12), data=st.data())
@pytest.mark.parametrize("kind", ["jsonl", "json", "data.json", "csv", "parquet"])
def test_any_text_survives_and_any_cursor_resumes(kind: str, stories: list[str], data: Any, tmp_path: Path) -> None:
    stories = ["Once upon a time", *stories]  # what begins a file is looked at to find out what it is
    source = Files([str(write_corpus(tmp_path / f"any.{kind}", stories))])
    whole = list(source.read(0, None))
    assert [story for story, _ in whole] == [story.removeprefix("\ufeff") for story in stories]
    at = data.draw(st.integers(0, len(whole) - 1))
    assert list(source.read(0, whole[at][1])) == whole[at + 1 :]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_share_of_a_pass_grows_with_the_cursor_and_ends_near_all_of_it(kind: str, tmp_path: Path) -> None:
    source = Files([str(write_corpus(tmp_path / f"{n}.{kind}", STORIES)) for n in ("a", "b")])
    shares = [source.share(cursor) for _, cursor in source.read(0, None)]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1 and 0.85 < shares[-1] <= 1
    assert 0.4 < shares[len(STORIES) - 1] < 0.6


def test_a_folder_is_searched_in_sorted_order_and_what_is_no_corpus_is_passed_over(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "a/deep/1.txt", "c.csv", ".hidden/0.txt", "notes.md", ".x.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps("from b") if "2" in name else "text\nfrom " + name)
    assert stories_of(tmp_path) == ["text\nfrom a/deep/1.txt", "from b", "from c.csv"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "stories.jsonl", STORIES)
    assert stories_of(path, tmp_path, path) == STORIES


def test_the_fingerprint_follows_names_sizes_and_contents(tmp_path: Path) -> None:
    def fingerprint(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return str(Files([str(tmp_path / name)]).description["fingerprint"])

    first = fingerprint("a.txt", "one story")
    assert len(first) == 64
    assert fingerprint("a.txt", "one story") == first
    assert fingerprint("a.txt", "one storm") != first
    assert fingerprint("b.txt", "one story") != first


def test_json_fields_go_by_name_then_by_being_the_only_text(tmp_path: Path) -> None:
    lines = ['{"story": "s", "text": "t"}', '{"summary": "x", "story": "s2"}', '{"n": 1, "tale": "only"}', '"bare"']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert stories_of(tmp_path) == ["t", "s2", "only", "bare"]


def test_one_pretty_printed_object_is_one_story(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"title": "A", "text": "Once.", "tags": ["b", "c"]}, indent=2))
    assert stories_of(tmp_path) == ["Once."]


def test_csv_takes_other_delimiters_and_a_lone_column_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "semi.csv").write_text('\ufeffid;Story\n1;"a; ""b"", c"\n2;d\n')
    assert stories_of(tmp_path / "semi.csv") == ['a; "b", c', "d"]
    (tmp_path / "bare.csv").write_text("Once there was a fox.\nIt slept.\n")
    assert stories_of(tmp_path / "bare.csv") == ["Once there was a fox.", "It slept."]


def test_broken_json_lines_are_named_by_file_and_line_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    bad = ['{"text": "torn', "[1, 2]", "nonsense", "[" * 100_000, '{"text": 5}']
    path.write_text("\n".join([json.dumps({"text": "good"}), "", *bad, json.dumps("also good")]))
    source = Files([str(path)])
    assert [story for story, _ in source.read(0, None)] == ["good", "also good"]
    assert source.faults.broken == 5
    assert source.faults.too_long == 0
    assert [note.partition("left out")[0] for note in source.notes[1:]] == [
        f"{path}, line 3: ",
        f"{path}, line 4: ",
        f"{path}, line 5: ",
        f"{path}: 5 pieces ",
    ]
    list(source.read(1, None))
    assert len(source.notes) == 5  # a second pass names nothing again


def test_a_broken_element_of_a_json_array_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a, ]"},\n{"text": oops},\n{"text": "b"}]\n')
    source = Files([str(path)])
    assert [story for story, _ in source.read(0, None)] == ["a, ]", "b"]
    assert source.notes[1] == f"{path}, line 2: left out (broken: Expecting value)"


def test_a_json_array_without_its_end_gives_what_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["one", "two", "thr')
    source = Files([str(tmp_path)])
    assert [story for story, _ in source.read(0, None)] == ["one", "two"]
    assert source.faults.broken == 1


def test_broken_utf8_is_read_with_replacement_and_nul_is_kept_for_cleaning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a long enough caf\xe9 story\n\none with a NUL \0 in it")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "caf\xe9 again"}')
    assert stories_of(tmp_path) == ["a long enough caf\ufffd story", "one with a NUL \0 in it", "caf\ufffd again"]


def test_a_parquet_cell_that_is_empty_or_no_utf8_harms_nothing(tmp_path: Path) -> None:
    cells = pyarrow.array([b"one", None, b"caf\xe9", b"x" * (STORY_BYTES + 1)]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": cells}), tmp_path / "a.parquet")
    source = Files([str(tmp_path)])
    assert [story for story, _ in source.read(0, None)] == ["one", "caf\ufffd"]
    assert (source.faults.broken, source.faults.too_long) == (1, 1)


def write_long(path: Path) -> None:
    """A story, one of 100 MB on one line, and another story."""
    name = path.name.removesuffix(".gz")
    first, before, after, last = {
        "a.jsonl": ('{"text": "first"}\n', '{"text": "', '"}\n', '{"text": "last"}\n'),
        "a.json": ('["first",\n', '"', '",\n', '"last"]'),
        "a.txt": ("first\n\n", "", "\n\n", "last"),
        "marks.txt": ("first<|endoftext|>", "", "<|endoftext|>", "last"),
        "a.csv": ("id,text\n1,first\n", '2,"', '"\n', "3,last\n"),
    }[name]
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as file:
        file.write((first + before).encode())
        for _ in range(100):
            file.write(b"long, so" * 125_000)
        file.write((after + last).encode())


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt", "marks.txt", "a.csv", "a.jsonl.gz"])
def test_a_line_of_100_mb_is_left_out_without_being_held(name: str, tmp_path: Path) -> None:
    write_long(tmp_path / name)
    tracemalloc.start()
    try:
        source = Files([str(tmp_path)])
        assert [story.strip() for story, _ in source.read(0, None)] == ["first", "last"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.faults.too_long == 1
    assert re.fullmatch(rf"{name}, line [123]: left out \(over 1 MiB\)", source.notes[1])
    assert peak < 16 << 20


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "marks.txt", "a.csv", "a.json"])
def test_the_limit_is_exact_to_about_a_line_end(name: str, tmp_path: Path) -> None:
    kept, dropped = "k" * (STORY_BYTES - 64), "d" * (STORY_BYTES + 1)
    kind = name.replace("a.", "")
    path = write_corpus(tmp_path / f"stories.{kind}", ["first", kept, dropped, "last"])
    assert stories_of(path) == ["first", kept, "last"]


def test_a_gz_cut_short_gives_what_can_be_read_and_says_so(tmp_path: Path) -> None:
    dice = random.Random(1)
    noise = [f"{n} {dice.randbytes(40).hex()}" for n in range(15_000)]
    path = write_corpus(tmp_path / "a.jsonl.gz", noise)
    path.write_bytes(path.read_bytes()[:-1000])
    source = Files([str(path)])
    read = [story for story, _ in source.read(0, None)]
    assert read == noise[: len(read)]
    assert 14_000 < len(read) < 15_000
    assert source.notes[-1] == f"{path}, its end: left out (not readable: the .gz is damaged or cut short)"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", bytes(range(256)) * 100, "a.txt is a binary file"),
        ("a.jsonl", b"\0" * 5000, "a.jsonl is a binary file"),
        ("a.csv", "text\nin another encoding\n".encode("utf-16"), "a.csv is a binary file"),
        ("a.txt", gzip.compress(b"story"), "a.txt is a binary file (gzip)"),
        ("a.json", b"\x89PNG\r\n\x1a\n", "a.json is a binary file (a picture)"),
        ("a.txt.gz", gzip.compress(b"story" * 9)[:-9], "a.txt.gz is no readable .gz file"),
        ("a.txt.gz", b"plain text", "a.txt.gz is no readable .gz file"),
        ("a.parquet", b"plain text", "a.parquet is no readable parquet file"),
        ("a.parquet.gz", gzip.compress(b"PAR1 torn"), "a.parquet.gz is no readable parquet file"),
        ("a.pdf", b"%PDF", "a.pdf is of no known format"),
        ("a.txt", b"", "a.txt is empty"),
        ("a.jsonl", b"\n \n", "a.jsonl is empty"),
        ("a.jsonl.gz", gzip.compress(b""), "a.jsonl.gz is empty"),
        ("a.csv", b"id,title\n1,x\n", "a.csv has no column of stories, only id, title"),
        ("a.json", b'{"a": 1}', "a.json holds no JSON array of stories"),
        ("a.json", b"42", "a.json holds no JSON array of stories"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",  # the bytes of a .gz tell the time
)
def test_what_is_no_corpus_is_refused_by_name(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refusal(tmp_path / name)


def test_paths_that_lead_nowhere_are_refused_by_name(tmp_path: Path) -> None:
    assert "there is no" in refusal(tmp_path / "missing.txt")
    assert "tinystories or bundled" in refusal("tinystory")
    assert "holds no stories" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.txt")
    assert "there is no nul" in refusal("nul\0byte")
    assert "cannot be read (File name too long)" in refusal("x" * 5000)
    parquet.write_table(pyarrow.table({"a": ["x"], "b": ["y"]}), tmp_path / "two.parquet")
    assert "two.parquet has no column of stories, only a, b" in refusal(tmp_path / "two.parquet")


def test_what_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("story")
    (tmp_path / "a.txt").chmod(0)
    code = "import sys; from storyteller.data.local_files import Files; Files([sys.argv[1]])"
    # Root reads every file by two capabilities; without them it is refused as anybody else is.
    lost = "-dac_override,-dac_read_search"
    as_user = ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}"] if os.geteuid() == 0 else []
    words = [*as_user, sys.executable, "-c", code, str(tmp_path / "a.txt")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert "CorpusError" in done.stderr
    assert "a.txt cannot be read (Permission denied)" in done.stderr


def test_a_name_that_would_steer_the_terminal_is_shown_safely(tmp_path: Path) -> None:
    (tmp_path / "\x1b[2Jevil.txt").write_text("A story.")
    assert "\x1b" not in "".join(Files([str(tmp_path)]).notes)
    assert "\x1b" not in refusal(tmp_path / "\x1b[3J.txt")
