"""The whole app at a real terminal over a hostile home: no crash, no hang, and no control from outside on the wire.

Each planted sequence has a mark in it that nothing else has. What Textual writes itself (colours, movements, modes) is
its own; a planted sequence, or a kind of control that no program here uses, is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pyte
import pytest

from storyteller.config.configs import SamplingParams
from storyteller.inference import story_history
from storyteller.inference.story_history import StoryRecord
from storyteller.text import safe
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import Status, write_status
from storyteller.tui.app import StorytellerApp
from tests.support import tiny_models
from tests.support.ptys import MAIN, environment
from tests.support.terminal import Terminal
from tests.support.training import make_run
from tests.support.watched import in_a_loop, text_of, until

OSC = "\x1b]52;c;UFdO\x07"
MARKUP = "[/end][@click=app.quit]QQ[/] [bold]BB"
PLANTED = (
    OSC,
    "\x1b]0;TITL\x1b\\",
    "\x1b[31mREDD",
    "\x1b[6nWHER",
    "\x1b[?1003lMOUS",
    "\x1bPDCSS\x1b\\",
    "\x1b_APCC\x1b\\",
    "\x9b31mCSII",
    "\x9d52;c;UFdC\x9c",
    "\u202eBIDI\u2066\u200f\u2028",
)
REST = "\x00\x05\x08\x0e\x7f\x84\x90"
EVIL = f"{MARKUP} {''.join(PLANTED)}{REST}"
LONE = "\ud800\udfff\udc80"
HUGE = "h\u00fcge " * 40_000
SHOWN_OSC = "\u241b]52;c;UFdO\u2407"

_OWN = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\]22;[a-z]*(?:\x07|\x1b\\\\)|\x1b[=>78]")
"""What Textual itself sends: CSI sequences, the mouse pointer's shape, keypad modes."""
_FORBIDDEN = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def check_wire(wire: bytes) -> None:
    """Nothing planted and no control is in what the terminal was sent, and no crash is told of."""
    text = wire.decode("utf-8")  # strictly: a lone surrogate or a torn character is no text
    for planted in PLANTED:
        assert planted not in text, ascii(planted)
    found = _FORBIDDEN.search(_OWN.sub("", text))
    assert found is None, ascii(_OWN.sub("", text)[max(0, found.start() - 60) : found.end() + 60])
    assert not re.search(rb"\xc2[\x80-\x9f]", wire)
    assert "Traceback" not in text and "Error:" not in text


# --- a hostile home ---------------------------------------------------------------------------------------------------


def evil_run(root: Path, name: str, minute: int, **changes: object) -> RunFolder:
    """A run whose every text has EVIL in it, whose newest checkpoint tells EVIL."""
    folder = make_run(root, name)
    plan = json.loads(folder.run_json.read_text())
    plan |= {"name": EVIL + HUGE, "created_at": f"2026-01-01T00:{minute:02}:00Z", "command": EVIL + HUGE}
    plan["config"] |= {"preset": EVIL + LONE, EVIL: {EVIL: EVIL}}
    plan["config"]["data"] |= {"source": [EVIL, HUGE, LONE], EVIL: EVIL}
    plan["config"]["train"] |= {"lr": EVIL}
    plan |= {"git": {"commit": EVIL}, "git_commit": EVIL, "host": {"device": EVIL, "processor": EVIL, EVIL: HUGE}}
    plan |= {"data": {"kind": EVIL, "fingerprint": EVIL}, "tokenizer": {"kind": EVIL}, "model": {"parameters": 10**400}}
    plan |= {EVIL: EVIL, "versions": {EVIL: EVIL}} | changes
    folder.run_json.write_text(json.dumps(plan))  # ASCII: lone surrogates as escapes
    write_status(folder, Status("failed", 1, 1.0, step=7, message=EVIL + LONE + HUGE, exit_code=1, wandb_url=EVIL))
    stories = [
        {"step": s, "prompt": p, "text": EVIL + LONE + t, "seed": 1}
        for s, t in ((1, ""), (7, HUGE))
        for p in (EVIL, HUGE)
    ]
    folder.samples.write_text("".join(json.dumps(story) + "\n" for story in stories))
    folder.log.write_bytes(f"00:00:00 {EVIL}\n{HUGE}\n{EVIL}\n\r\r".encode() + b"\xff\xfe\x9b31mCSII \xc2\n")
    folder.wandb_json.write_text(json.dumps({"url": EVIL, "rows": EVIL}))
    absurd = [1e308, -1e308, 10**400, "x", EVIL, None, True, [1], {}, 5e-324, 0, -1]
    lines = [
        json.dumps(
            {"step": n, "tokens": absurd[-n], "seconds": v, "time": EVIL, "train/loss": v, EVIL: 1.0, "eval/bpb": v}
        )
        for n, v in enumerate(absurd)
    ]
    lines += [
        '{"step": 3, "train/loss": NaN}',
        '{"step": 1e999}',
        "{" * 5000,
        '{"step": -9007199254740993, "train/loss": 1}',
    ]
    lines += [
        json.dumps({"step": s, "train/loss": 2.0 / s, "eval/bpb": 1.0 / s, "tokens": 10**400, "seconds": 1e300})
        for s in (1, 5, 7)
    ]
    folder.metrics.write_text("\n".join(lines) + "\n")
    return folder


def tells(folder: RunFolder, step: int, said: str) -> None:
    """A checkpoint of the run that says so, whatever it is asked."""
    staging = checkpoint_folders.stage(folder, step)
    context = len(said.encode()) + 8
    shutil.rmtree(staging)
    checkpoint_folders.seal(
        tiny_models.script_folder(staging, said, context), folder, step, {"eval/bpb": 0.5, "evil": EVIL}
    )


def odd_runs(root: Path) -> None:
    """Runs with something else where a file belongs."""
    files = ("status.json", "metrics.jsonl", "samples.jsonl", "train.log", "wandb.json", "held_out.jsonl")
    pipes = make_run(root, "bat-of-pipes")
    folders = make_run(root, "cow-of-folders")
    loops = make_run(root, "elk-of-loops")
    shut = make_run(root, "dog-shut-files")
    for name in files:
        os.mkfifo(pipes.path / name)
        (folders.path / name).mkdir()
        (loops.path / name).symlink_to(name)
        (shut.path / name).write_text("{}\n")
        (shut.path / name).chmod(0)
    (pipes.checkpoints / "step-00000003").mkdir(parents=True)
    for name in ("manifest.json", "config.json", "model.safetensors", "tokenizer.json"):
        os.mkfifo(pipes.checkpoints / "step-00000003" / name)
    folders.checkpoints.write_text("no folder")
    loops.checkpoints.symlink_to("checkpoints")
    (shut.checkpoints / "step-00000001").mkdir(parents=True)
    (shut.checkpoints / "step-00000001").chmod(0)
    shut.checkpoints.chmod(0)
    closed = make_run(root, "dog-shut-plan")
    closed.run_json.chmod(0)
    make_run(root, "dog-shut-whole").path.chmod(0)
    for name, text in (
        ("ape-torn", b"{"),
        ("ape-list", b"[" * 100_000),
        ("ape-zero", b"\0" * 4096),
        ("ape-text", EVIL.encode()),
    ):
        (root / name).mkdir()
        (root / name / "run.json").write_bytes(text)
    newer = make_run(root, "ape-newer")
    newer.run_json.write_text(json.dumps({"schema": 99, "created_at": EVIL}))
    (root / "emu-loop").symlink_to("emu-loop")
    (root / "emu-pipe").mkdir()
    os.mkfifo(root / "emu-pipe" / "run.json")
    os.mkfifo(root / "pipe")
    (root / "file").write_text(EVIL)
    with contextlib.suppress(OSError):
        shutil.copytree(newer.path, root / EVIL.replace("\0", "").replace("/", ""))


def hostile_home(root: Path) -> None:
    """Runs of every hostile kind, and a story history."""
    odd_runs(root)
    for minute, name in enumerate(("gnu-going", "hen-leaving", "evil-two", "evil-fox"), 1):
        folder = evil_run(root, name, minute)
        tells(folder, 7, "...." + EVIL + "\U0001f98a e\u0301 end")
        if name == "hen-leaving":
            tells(folder, 5, "gone")
    for n in range(3):
        story_history.keep(
            StoryRecord(
                f"evil{EVIL}", EVIL + LONE, HUGE * (n == 1) + EVIL, SamplingParams(seed=1), 10**30, 1.5, runs_dir=EVIL
            )
        )
    with story_history.stories_path().open("ab") as file:
        file.write(b"\xff{}\n" + b"[" * 100_000 + b"\n" + json.dumps({"sample": EVIL, "seed": EVIL}).encode() + b"\n")


# --- a terminal that is driven ----------------------------------------------------------------------------------------


class Person(Terminal):
    """Someone at the app's terminal, who reads on as it writes and resizes it."""

    def __init__(self, root: Path, columns: int, rows: int, env: Mapping[str, str] | None = None) -> None:
        words = [sys.executable, "-c", MAIN, "tui", "--runs-dir", str(root)]
        if os.geteuid() == 0:  # else no permission would keep root out
            words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]
        super().__init__(words, columns, rows, env=environment(**(env or {})))
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._fed = 0

    def screen(self) -> pyte.Screen:
        for chunk in self.chunks[self._fed :]:
            self._stream.feed(chunk.data)
            self._fed += 1
        return self._screen

    @property
    def wire(self) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks)

    def resize(self, columns: int, rows: int) -> None:
        self.screen()
        self.columns, self.rows = columns, rows
        self._screen.resize(rows, columns)
        fcntl.ioctl(self._handle, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)
        self.rest()

    def rest(self, quiet_seconds: float = 0.15, most_seconds: float = 3.0) -> None:
        """Until nothing was written for a while."""
        end = time.monotonic() + most_seconds
        while time.monotonic() < end:
            time.sleep(0.03)
            if self.chunks and time.perf_counter() - self.chunks[-1].at_seconds > quiet_seconds:
                break
        assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), _OWN.sub("", self.wire.decode(errors="replace"))[-20_000:]

    def press(self, *keys: str, quiet_seconds: float = 0.08) -> None:
        """One key after another, each once what the one before did is drawn."""
        for key in keys:
            self.send(key)
            time.sleep(0.16 if key == "\x1b" else 0.04)  # an escape alone is known by what does not follow
            self.rest(quiet_seconds)

    def paste(self, text: str) -> None:
        data = f"\x1b[200~{text}\x1b[201~".encode("utf-8", "surrogatepass")
        for first in range(0, len(data), 1000):  # a pty takes 4,095 bytes until they are read
            os.write(self._handle, data[first : first + 1000])
            time.sleep(0.01)
        self.rest(0.8 if len(data) > 2000 else 0.15, 10)

    def open(self, key: str, text: str) -> None:
        """Press `key` until it brings `text`: what is about to close takes a key that comes too soon."""
        for _ in range(3):
            self.rest(0.4, 8)
            self.send(key)
            with contextlib.suppress(TimeoutError):
                self.wait_for(text, 8)
                return
        raise TimeoutError(f"{key!r} does not bring {text!r}:\n{self.text()}")

    def choose(self, command: str) -> None:
        """From the palette; another time where a message that was under way has closed it."""
        for _ in range(3):
            self.open("\x10", "Search for commands")
            self.paste(command)
            with contextlib.suppress(TimeoutError):
                self.wait_for(command, 5)
                break
        self.rest(0.3)
        self.press(ENTER)

    def leave(self) -> None:
        for _ in range(3):
            self.press("\x1b", "\x1b")
            self.send("q")
            with contextlib.suppress(TimeoutError):
                assert self.ended(10) == 0
                break
        assert not self.pid, self.text()
        self._reader.join(5)
        check_wire(self.wire)


ESC, ENTER, TAB, UP, DOWN, LEFT, RIGHT = "\x1b", "\r", "\t", "\x1b[A", "\x1b[B", "\x1b[D", "\x1b[C"
PASTED = f"{MARKUP} {PLANTED[-3]}{PLANTED[-2]}{PLANTED[-1]}\x05\x08\x0e\x7f\x84\x90"
"""Without an escape, since Textual reads what follows one as keys, also within a paste."""


def through_the_runs(person: Person, thorough: bool) -> None:
    person.wait_for("evil-fox")
    person.rest()
    if person.rows >= 24:
        person.wait_for(MARKUP[:23])
    person.press(*[DOWN] * (14 if thorough else 4))
    person.press("/")
    person.paste(EVIL.replace("\x00", ""))
    person.press(ENTER, ESC)
    if thorough:
        person.press(*"ooooO", UP, "e")  # sorted by every kind of thing; a new name
        person.paste(PASTED)
        person.press(ENTER)
        person.paste("n" * 10_000)
        person.press(ENTER, ESC, "d", "n", "s", "r")
        person.press("?", DOWN, ESC, "\x10")  # help; the palette
        person.paste(PASTED)
        person.press(ESC, "\x10", *"evil", ESC)


def through_the_form(person: Person, thorough: bool) -> None:
    person.open("n", "A new run" if person.rows >= 24 else "storyteller train")
    for _ in range(4 if thorough else 1):
        person.paste(PASTED)
        person.press(ENTER, TAB)
    if thorough:
        person.paste("x" * 10_000)
        person.press("\x13", quiet_seconds=0.6)
    person.press(ESC)


def through_a_run(person: Person, name: str, thorough: bool) -> None:
    person.choose(f"Open {name}")
    if person.rows >= 24:  # else the chart has the whole screen
        person.wait_for(f"2 {name}"[: person.columns // 3])
    person.rest(0.4)
    keys = [*"pvLLg", "/"] if thorough else [*"Lg"]
    person.press(*keys)
    if thorough:
        person.paste(PASTED)
        person.press(ENTER, *"gixlmzz", DOWN, DOWN, *"+-", LEFT, RIGHT, "[", "]", ENTER, "s", "r", "P")
        person.paste(PASTED)
        person.press(ENTER, "a", " ", DOWN, " ", ENTER)


def through_the_stories(person: Person, thorough: bool) -> None:
    person.press("1")
    person.choose("Tell from evil-fox")
    person.wait_for("3 Story")
    person.paste("...." if not thorough else PASTED)
    person.send(ENTER)
    person.wait_for("the end" if person.columns > 60 else "QQ", 60)
    if not thorough:
        return
    person.press("\x0e", "\x05", "\x06")  # again, edit, fork
    person.press("\x14")  # the picker
    person.paste(PASTED)
    person.press(ENTER)
    person.send(ENTER)
    person.rest(0.5)
    person.press("\x12")  # history
    person.rest(0.3)
    person.press(DOWN, DOWN, DOWN)
    person.paste("BIDI")
    person.press(DOWN, "\x0f")
    person.press("\x12", ENTER, ESC, "\x13")
    person.paste(PASTED)
    person.press(ENTER)
    person.paste("s" * 10_000)
    person.press(ENTER, ESC)
    person.press("\x02", ENTER)  # beside
    person.paste("p" * 10_000 + LONE)
    person.send(ENTER)
    person.rest(0.6, 10)


def through_compare(person: Person, thorough: bool) -> None:
    person.press("1", ESC, ESC)
    person.press("/")
    person.paste("evil")
    person.press(ENTER, " ", DOWN, " ", "c")
    person.rest(0.5)
    person.wait_for("4 Compare")
    person.press(*"]xlm" if thorough else "]", DOWN, "+", RIGHT)
    if thorough:
        person.press("a", " ", ENTER, "d", "z", "t")
        person.rest(0.5)


@pytest.mark.parametrize(
    ("size", "thorough"),
    [
        pytest.param((80, 24), False, id="80x24"),
        pytest.param((80, 24), True, id="80x24-thorough", marks=pytest.mark.slow),
        pytest.param((160, 45), True, id="160x45-thorough", marks=pytest.mark.slow),
    ],
)
def test_every_screen_over_a_hostile_home_stays_and_sends_no_control(
    size: tuple[int, int], thorough: bool, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    hostile_home(root)
    with Person(root, *size) as person:
        through_the_runs(person, thorough)
        if thorough:
            through_the_form(person, thorough)
        for name in (
            ("evil-fox", "bat-of-pipes", "cow-of", "dog-shut-f", "elk-of", "ape-newer")
            if thorough
            else ("evil-fox", "bat-of")
        ):
            through_a_run(person, name, thorough)
        through_the_stories(person, thorough)
        through_compare(person, thorough)
        for columns, rows in ((132, 50), (20, 5), (8, 2), size):
            person.resize(columns, rows)
        end = time.monotonic() + 20
        while not person.text().strip():  # a terminal that has grown is empty until the app has drawn it
            assert time.monotonic() < end
            time.sleep(0.05)
        person.leave()
    assert SHOWN_OSC in safe(person.wire.decode())


@pytest.mark.slow
def test_at_40x10_every_screen_is_opened_over_a_hostile_home_and_sends_no_control(tmp_path: Path) -> None:
    """Each wait is for what a screen of that size shows; between two of them the app is where the last one says."""
    root = tmp_path / "runs"
    root.mkdir()
    hostile_home(root)
    with Person(root, 40, 10) as person:

        def see(*texts: str) -> None:
            for text in texts:
                person.wait_for(text, 90)

        def do(*keys: str, then: str) -> None:
            """Press them, and wait for what the last of them brings."""
            person.press(*keys)
            see(then)

        see("1 Runs", "evil-fox", MARKUP[:23])
        do("/", then=" of ")
        person.paste(EVIL.replace("\x00", ""))
        see("0 of ")
        do(ENTER, ESC, then="evil-fox")
        do("e", then="New name")
        person.paste(PASTED)
        person.press(ENTER)  # which no run can have
        do(ESC, then="1 Runs")
        do("d", then="for good")
        do(ESC, then="1 Runs")
        do("?", then="This view")
        do(ESC, then="1 Runs")
        do("n", then="A new run")
        person.press(TAB)
        person.paste(PASTED)
        do(ESC, then="1 Runs")
        for name in ("bat-of-pipes", "evil-fox"):
            person.choose(f"Open {name}")
            see(f"2 {name}")
        see("Story  Samples  Log", "[bold]BB", "31mCS")  # its message, all of it that there is room for
        do("L", then="\ufffd31mCSII")  # the log's last line
        do("g", then="/ search")
        do("i", then="/ search")
        do("z", then="training loss")  # the charts alone
        do("z", then=f"name          {MARKUP[:18]}")  # the panel alone
        do("a", then="Draw other runs")
        do(ESC, then="2 evil-fox")
        person.press("/")
        end = time.monotonic() + 90
        while "Earlier" in person.text():  # its keys are hinted at until the line has the keyboard
            assert time.monotonic() < end
            time.sleep(0.1)
        person.paste("zebra")
        see("no match")
        person.press(ESC)
        person.choose("Tell from evil-fox")
        see("3 Story", "enter generates a story")
        person.paste("....")
        person.send(ENTER)
        see(" tokens \u00b7", "end")  # how the story went, under its last words
        do("\x14", then="Type to filter")
        do(ESC, then="3 Story")
        do("\x12", then="Search the stories")
        person.paste("BIDI")
        see("BIDI")
        do(ESC, then="3 Story")
        do("\x13", then="Save the story as")
        do(ESC, then="3 Story")
        person.press(ESC)
        person.choose("Runs")
        see("1 Runs")
        do("/", then=" of ")
        person.paste("evil")
        see("2 of ")
        do(ENTER, " ", DOWN, " ", then="evil-two")
        do("c", then="4 Compare")
        person.press("]", "d", "t", "+", RIGHT)
        for columns, rows in ((20, 5), (8, 2), (40, 10)):
            person.resize(columns, rows)
        see("4 Compare")
        person.choose("Runs")
        see("1 Runs")
        person.leave()
    assert SHOWN_OSC in safe(person.wire.decode())


def test_an_escape_typed_or_pasted_and_bytes_that_are_no_text_steer_nothing(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make_run(root, "fox")
    with Person(root, 80, 24) as person:
        person.wait_for("fox")
        person.press("/")
        person.paste(f"a{LONE}b\x9b31mCSII")
        os.write(person._handle, b"\xff\xfe\xc2")
        os.write(person._handle, b"z")
        person.wait_for("\u20399B\u203a31mCSII")
        person.wait_for("z")
        person.leave()


@pytest.mark.slow
def test_what_vanishes_while_it_is_open_is_told_of_and_the_app_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for name in ("gnu-going", "hen-leaving"):
        folder = make_run(root, name)
        write_status(folder, Status("finished", 1, 1.0, step=7))
        for step in (5, 7):
            tells(folder, step, "...." + MARKUP)
    with Person(root, 100, 24) as person:
        person.wait_for("gnu-going")
        person.choose("Tell from hen-leaving")
        person.wait_for("hen-leaving")
        person.press("\x14")
        person.wait_for("@5")
        shutil.rmtree(root / "hen-leaving" / "checkpoints" / "step-00000005")
        person.paste("hen-leaving@5")
        person.press(ENTER)
        person.rest(0.3)
        person.paste("Once")
        person.send(ENTER)
        person.wait_for("hen-leaving")
        person.rest(0.5)
        person.choose("Open gnu-going")
        person.wait_for("2 gnu-going")
        person.rest(0.3)
        shutil.rmtree(root / "gnu-going")
        person.wait_for("its folder was deleted")
        person.press("s", "r", "t")
        person.rest(0.5)
        shutil.rmtree(root)
        person.rest(0.8)
        person.press("1")
        person.rest(0.8)
        person.leave()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_app_goes_on(tmp_path: Path) -> None:
    disk, root = tmp_path / "disk", tmp_path / "runs"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here ({mounted.stderr.decode().strip()})")
    try:
        folder = make_run(root, "fox")
        tells(folder, 7, "...." + MARKUP)
        filler = disk / "filler"
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        homes = {"XDG_DATA_HOME": str(disk / "data"), "XDG_CONFIG_HOME": str(disk / "config")}
        with Person(root, 110, 30, homes) as person:
            person.wait_for("fox")
            person.press("o")
            person.wait_for("settings cannot be saved")
            person.press("t")
            person.wait_for("3 Story")
            person.paste("Once")
            person.send(ENTER)
            person.wait_for("QQ", 60)
            person.wait_for("the story is not kept: no space left on device")
            person.press("\x13")
            person.paste(f"{disk}/story.txt")
            person.press(ENTER)
            person.wait_for("no space left on device")
            person.press(ESC)
            filler.unlink()
            person.choose("Theme: light")
            person.leave()
        assert json.loads((disk / "config" / "storyteller" / "tui.json").read_text())["theme"] == "light"
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
@in_a_loop
async def test_toasts_and_tooltips_show_markup_and_controls_as_they_stand(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    folder = make_run(root, "fox")
    write_status(folder, Status("failed", 1, 1.0, step=7, message=EVIL))
    app = StorytellerApp(root, settings_path=tmp_path / "tui.json")
    async with app.run_test(size=(100, 40), notifications=True, tooltips=True) as pilot:
        app.say(EVIL, "error")
        await until(pilot, lambda: MARKUP in text_of(pilot))
        assert SHOWN_OSC in text_of(pilot).replace("\n", "")
        for view in ("runs", "story"):
            app.action_view(view)
            await pilot.pause(0.2)
            for widget in list(app.screen.query("*")):
                if widget.display and widget.region.area and widget.tooltip is not None:
                    await pilot.hover(type(widget))
                    await pilot.pause(0.4)
            assert not _FORBIDDEN.search(text_of(pilot))
