"""No control from outside reaches a terminal raw: the bytes of real ptys, over every command and the session.

Each payload has a mark in it that nothing else has. What prompt_toolkit and rich themselves send (colours, movements)
is theirs; a payload's own bytes next to its mark, or a kind of control that no program here uses, is not.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from storyteller.config.configs import SamplingParams
from storyteller.inference import story_history
from storyteller.inference.story_history import StoryRecord
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import own_status, write_status
from tests.support import tiny_models
from tests.support.ptys import at_terminal
from tests.support.training import make_run, sealed_script

OSC = "\x1b]52;c;UFdO\x07"
TITLE = "\x1b]0;TITL\x1b\\"
RED = "\x1b[31mREDD"
CSI = "\x9b31mCSII"
BIDI = "\u202eBIDI\u2066\u200f\u2028\ufeff"
REST = "\x00\x05\x08\x0e\x7f\x84\x90"
EVIL = f"<{OSC}{TITLE}{RED}{CSI}{BIDI}{REST}>"

_FORBIDDEN = re.compile(
    "\x1b[\\]PX^_]"  # OSC, DCS, SOS, PM, APC: nothing here sends them
    "|\x1b\\[31mREDD"
    "|[\x00-\x06\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"  # C0 but bell, backspace, tab, newline, return, escape; C1
    "|[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)


def check(seen: bytes, *pictures: str) -> None:
    """Nothing forbidden is in what a terminal was sent, and each of the pictures is: nothing was lost."""
    text = seen.decode("utf-8", "surrogateescape")
    found = _FORBIDDEN.search(text)
    assert found is None, text[max(0, found.start() - 60) : found.end() + 60].encode("unicode_escape")
    assert b"\x07" not in seen
    plain = re.sub("\x1b\\[[0-?]*[ -/]*[@-~]", "", text)
    plain = re.sub("[\r\n\u2500-\u257f ]|\x08", "", plain)  # lines are wrapped anywhere
    for picture in pictures:
        assert re.sub("[ \n]", "", picture) in plain, plain


SHOWN = (
    "\u241b]52;c;UFdO\u2407",
    "\u241b]0;TITL\u241b\\",
    "\u241b[31mREDD",
    "\u20399B\u203a31mCSII",
    "\u2039202E\u203aBIDI",
)


def run(*words: str, columns: int = 200) -> bytes:
    """All that a command sends to its terminal."""
    with at_terminal(*words, columns=columns) as shown:
        shown.finish()
        return shown.seen


def evil_model(path: Path) -> str:
    """A model that says EVIL after a prompt of four bytes."""
    return str(tiny_models.script_folder(path, b"...." + EVIL.encode(), 160))


def evil_run(name: str = "fox") -> RunFolder:
    """A run whose every file that is shown has EVIL in it."""
    folder = make_run(Path("runs").resolve(), name)
    folder.log.write_text(f"one {EVIL}\ntwo\n", encoding="utf-8")
    folder.samples.write_text(json.dumps({"step": 1, "prompt": EVIL, "text": EVIL, "seed": 1}) + "\n")
    folder.metrics.write_text(json.dumps({"step": 1, "tokens": 5, "seconds": 1.0, "train/loss": EVIL}) + "\n")
    plan = json.loads(folder.run_json.read_text())
    plan["config"]["preset"] = EVIL
    folder.run_json.write_text(json.dumps(plan))
    return folder


def test_a_prompt_and_a_model_are_shown_as_pictures(tmp_path: Path) -> None:
    model = evil_model(tmp_path / "model")
    check(run("tell", "a\x1bbc", "--model", model, "--no-keep"), "a\u241bbc", *SHOWN)
    check(run("tell", "abcd", "--model", model, "--count", "2", "--no-keep", columns=40), *SHOWN)
    check(run("tell", EVIL.replace("\x00", ""), "--model", evil_model(tmp_path / "m2"), "--max-tokens", "1"), *SHOWN)


def test_kept_stories_and_json_are_shown_as_pictures() -> None:
    story_history.keep(StoryRecord(f"evil{EVIL}", EVIL, EVIL, SamplingParams(seed=1), 1, 0.1, id="abcdefgh"))
    check(run("stories", "--full"), *SHOWN)
    check(run("stories"), SHOWN[0])
    check(run("stories", "--json"), "\\u001b]52;c;UFdO\\u0007", "\\u202eBIDI")
    check(run("tell", "--again", "abcdefgh"), "\u241b]52;c;UFdO\u2407")


def test_runs_and_their_logs_are_shown_as_pictures() -> None:
    folder = evil_run()
    status = own_status("failed")
    write_status(folder, status.__class__(**{**status.__dict__, "message": EVIL, "exit_code": 1}))
    check(run("ps"), "fox")
    check(run("logs", "fox"), *SHOWN)
    check(run("train", "--attach", "fox"), *SHOWN)
    check(run("wait", "fox"), *SHOWN)


@pytest.mark.parametrize(
    "words",
    [
        ("tell", "Once", "--model", EVIL),
        ("tell", "Once", "--model", f"./{EVIL}"),
        ("tell", "Once", "--model", "MODEL", "--out", f"{EVIL}/x"),
        ("tell", "--model", "MODEL", "--file", EVIL),
        ("tell", "--again", EVIL),
        ("tell", f"--{EVIL}"),
        ("logs", EVIL),
        (f"x{EVIL}",),
    ],
    ids=range(8),
)
def test_an_error_line_shows_what_was_given_as_pictures(words: tuple[str, ...], tmp_path: Path) -> None:
    model = evil_model(tmp_path / "model") if "MODEL" in words else ""
    # The command line's library escapes some of it in its own way, as \\x1b: that is as harmless, and as visible.
    check(run(*(model if word == "MODEL" else word.replace("\x00", "") for word in words)), "52;c;UFdO")


def test_a_broken_line_of_prompts_is_shown_as_a_picture(tmp_path: Path) -> None:
    name = EVIL.replace("\x00", "").replace("/", "")[:60] + ".jsonl"
    Path(name).write_text("{}\n")
    check(run("tell", "--file", name, "--model", evil_model(tmp_path / "model")), SHOWN[0])


def test_nothing_that_a_session_is_given_reaches_its_terminal_raw() -> None:
    sealed_script(evil_run("fox"), 7, "....." * 12)
    (Path("runs") / ("owl" + EVIL.replace("\x00", "").replace("/", ""))).mkdir()
    story_history.keep(StoryRecord("evil", EVIL, EVIL, SamplingParams(seed=1), 1, 0.1, id="abcdefgh"))
    pasted = EVIL.replace("\x1b[201~", "")
    with at_terminal("tell", "--max-tokens", "4", columns=120) as shown:
        shown.ready()
        shown.say(f"\x1b[200~{pasted}\x1b[201~\r")  # shown on the line, then refused or told from
        shown.ready()
        shown.say("\x1b[A\r")  # from the history
        shown.ready()
        shown.say("\x12UFdO")  # searched for
        shown.until("UFdO")
        shown.say("\x07\x15")
        shown.say("/model fo")
        shown.until("fox@best")
        shown.say("\x15")
        for line in (f"/save no/{EVIL}", f"/model {EVIL}", f"/{EVIL}", f"/set {EVIL} 1", f"/set stop {EVIL}", "/set"):
            shown.say(f"\x1b[200~{line}\x1b[201~\r")
            shown.ready()
        for line in ("/history", "/show", "/models", "/again abcdefgh"):
            shown.say(line + "\r")
            shown.ready()
        shown.say("/bye\r")
        shown.until("/bye")
        shown.finish()
    check(shown.seen, *SHOWN)
    assert shown.process.returncode == 0


def test_a_session_edits_a_line_of_pictures_where_the_cursor_is(tmp_path: Path) -> None:
    model = str(tiny_models.script_folder(tmp_path / "script", ". " * 32))
    with at_terminal("tell", "--model", model, "--max-tokens", "2", columns=120) as shown:
        shown.ready()
        shown.say("\x1b[200~a\u202eb\x1b[201~")
        shown.until("a\u2039202E\u203ab")
        shown.say("\x1b[DX\x1b[D\x1b[D\x1b[3~\r")  # left, X; left twice, delete: the control is gone
        shown.until("aXb .")
        shown.ready()
        shown.say("\x04")
        assert shown.finish() == 0
    check(shown.seen)


def test_the_editor_and_the_environment_of_a_session_are_not_trusted_either(tmp_path: Path) -> None:
    model = str(tiny_models.script_folder(tmp_path / "script", ". " * 32))
    editor = tmp_path / "editor"
    (tmp_path / "evil.txt").write_text(EVIL.replace("\x00", ""))
    editor.write_text(f'#!/bin/sh\ncp "{tmp_path}/evil.txt" "$1"\n')
    editor.chmod(0o755)
    with at_terminal("tell", "--model", model, columns=120, VISUAL=str(editor)) as shown:
        shown.ready()
        shown.say("/edit\r")
        shown.until("BIDI")
        shown.ready()
        shown.say("\x04")
        assert shown.finish() == 0
    check(shown.seen, *SHOWN)
