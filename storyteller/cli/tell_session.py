"""The session: stories told, gone on with, taken back and changed, from lines typed at a terminal.

    Session(loaded, sample, paper, keeper).answer("/again")

What a line does is here; how it is typed (history, completion) is `line_editor`'s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.cli.external_editor import edited, keys_unseen
from storyteller.cli.loaded_model import Loaded
from storyteller.cli.story_output import Page, Paper
from storyteller.cli.tell_stream import HistoryWriter, StreamedStory, tell_aloud
from storyteller.cli.text_tables import table
from storyteller.config.configs import PROMPTS, SamplingParams, section
from storyteller.errors import StorytellerError, UsageError
from storyteller.inference.engine import STARTER
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.inference.story_history import StoryRecord

SETTINGS = tuple(field.name for field in dataclasses.fields(SamplingParams))


@dataclass(frozen=True)
class SessionCommand:
    """One of the session's commands."""

    name: str
    wants: str
    """What may or must follow it, as the help shows it."""
    help: str


COMMANDS = (
    SessionCommand("again", "[ID]", "tell the last part anew; ID: a kept story, as it was told"),
    SessionCommand("more", "[WORDS]", "go on with the story, after WORDS of yours; so does Enter alone"),
    SessionCommand("undo", "", "take the last change back"),
    SessionCommand("edit", "", "change the story in your editor ($VISUAL, $EDITOR)"),
    SessionCommand("fork", "[N]", "keep the story as it is and go on with a copy; N: return to fork N"),
    SessionCommand("show", "", "the whole story, and what told it"),
    SessionCommand("set", "[NAME VALUE]", "how stories are told: /set temperature 0.7; alone: all of it"),
    SessionCommand("model", "[NAME]", "tell from another model: RUN, RUN@STEP, a folder, owner/name"),
    SessionCommand("models", "", "the models there are"),
    SessionCommand("history", "[WORDS]", "the stories kept, those with WORDS in them"),
    SessionCommand("save", "FILE", "write the story to a file; /save! writes over one that is there"),
    SessionCommand("help", "", "this"),
    SessionCommand("bye", "", "leave; so does Ctrl-D"),
)
_OTHER_NAMES = {"exit": "bye", "quit": "bye", "?": "help", "save!": "save!"}
_WELCOME = "Type how a story begins. Enter goes on with it, Ctrl-C stops it, /help says the rest, Ctrl-D leaves."


@dataclass(frozen=True)
class SessionState:
    """The story at one time."""

    text: str = ""
    begins: int = 0
    """Where the part begins that was told last: what stands before it was its prompt."""
    goes_on: bool = False
    """Whether that prompt was a story so far, of which the model was given the newest part."""
    told: StoryRecord | None = None
    """The record of the part told last."""


class Session:
    """The state of one session, and what each line does to it."""

    def __init__(
        self,
        loaded: Loaded,
        sample: SamplingParams,
        paper: Paper,
        keeper: HistoryWriter,
        columns: Callable[[], int] | None = None,
    ) -> None:
        """`columns` of the terminal; None: asked of it each time."""
        self._loaded = loaded
        self._sample = sample
        self._paper = paper
        self._keeper = keeper
        self._columns = columns or (lambda: shutil.get_terminal_size().columns)
        self._forks: list[list[SessionState]] = [[SessionState()]]
        self._fork = 0
        self._told = 0

    @property
    def label(self) -> str:
        """What the prompt line calls the model."""
        return safe_line(self._loaded.engine.label)

    @property
    def story(self) -> str:
        """The story so far."""
        return self._now.text

    @property
    def _now(self) -> SessionState:
        return self._forks[self._fork][-1]

    def answer(self, line: str) -> bool:
        """Do what a line says; False where it says to leave. Ctrl-C and a user's error end the line alone."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                return self._command(line.strip()[1:])
            text = line[1:] if line.startswith("//") else line
            if text.strip():
                self._begin(text)
            else:
                self._more("")
        except StorytellerError as error:
            self._say(str(error))
        except KeyboardInterrupt:
            self._paper.write("\n")
        return True

    def look(self) -> None:
        """Between two stories: make room for a run that trains; take up or name a newer checkpoint of the model's."""
        before = self.label
        with contextlib.suppress(StorytellerError):
            self._loaded.give_way()
        newer, run = self._loaded.newer(), self._loaded.run
        if newer is not None and run is not None:
            if not self._loaded.follows:
                self._say(f"{newer} is newer: /model {run}")
                return
            try:
                self._loaded.reopen(self._loaded.reference)
            except StorytellerError as error:
                self._say(f"{newer} is newer, but {error.problem}")
                return
        if self.label != before:
            self._say(f"{self.label} is there now, and tells from here on")

    # --- telling ------------------------------------------------------------------------------------------------------

    def _begin(self, prompt: str) -> None:
        self._tell(prompt, goes_on=False, echo=prompt)

    def _more(self, words: str) -> None:
        story = self.story
        if not story:
            self._begin(words or PROMPTS[0])
            return
        gap = " " if words and not story[-1].isspace() else ""
        self._tell(story + gap + words, goes_on=True, echo=words)

    def _again(self, identity: str) -> None:
        if identity:
            self._retell(identity)
            return
        now = self._now
        prompt = now.text[: now.begins]
        if not prompt:
            self._say("nothing was told yet: type how a story begins")
            return
        self._tell(prompt, goes_on=now.goes_on, echo="" if now.goes_on else prompt)

    def _tell(self, prompt: str, *, goes_on: bool, echo: str) -> None:
        """Tell after `prompt`; what was told becomes the story, also where Ctrl-C stops it."""
        self.look()
        sample = self._seeded()
        given = self._loaded.engine.recent(prompt) if goes_on else prompt
        with keys_unseen():
            heard = tell_aloud(self._loaded.engine, given, sample, self._paper, echo=echo)
        self._take(prompt, goes_on, sample, heard)

    def _take(self, prompt: str, goes_on: bool, sample: SamplingParams, heard: StreamedStory) -> None:
        told = self._keeper.keep(self._loaded, prompt, sample, heard, goes_on=goes_on) if heard.text else None
        self._change(SessionState(prompt + heard.text, len(prompt), goes_on, told))

    def _seeded(self) -> SamplingParams:
        """The settings with a seed: a drawn one, or from the one that was set on, each telling the next."""
        from storyteller.inference.engine import with_seed

        if self._sample.seed is None:
            return with_seed(self._sample)
        self._told += 1
        return dataclasses.replace(self._sample, seed=(self._sample.seed + self._told - 1) % 2**32)

    def _retell(self, identity: str) -> None:
        """A kept story, by the model and with the settings that told it; the session's own stay as they are."""
        from storyteller.cli.story_output import Sheet
        from storyteller.cli.tell_replay import open_again, retell
        from storyteller.inference import story_history

        told = story_history.find(identity)
        with open_again(told, {}) as loaded, keys_unseen():
            heard, remark = retell(loaded, told, told.sample, Sheet(self._paper, as_json=False), self._keeper)
        if remark:
            self._say(remark)
        self._change(SessionState(told.prompt + heard.text, len(told.prompt), told.goes_on, told))

    # --- changing -----------------------------------------------------------------------------------------------------

    def _change(self, moment: SessionState) -> None:
        self._forks[self._fork].append(moment)

    def _undo(self, _: str) -> None:
        moments = self._forks[self._fork]
        if len(moments) == 1:
            self._say("there is nothing to take back")
            return
        moments.pop()
        self._page(self.story) if self.story else self._say("the page is empty again")

    def _edit(self, _: str) -> None:
        changed = edited(self.story)
        if changed == self.story:
            self._say("nothing was changed")
            return
        self._change(SessionState(changed, len(changed), goes_on=True))
        self._page(changed)

    def _go_to_fork(self, which: str) -> None:
        if not which:
            if not self.story:
                self._say("there is no story to fork yet")
                return
            self._forks.append(list(self._forks[self._fork]))
            kept, self._fork = self._fork + 1, len(self._forks) - 1
            self._say(f"this is fork {self._fork + 1}; /fork {kept} returns to the story as it was")
            return
        if not which.isdecimal() or not 1 <= int(which) <= len(self._forks):
            there = "there is fork 1 alone" if len(self._forks) == 1 else f"there are forks 1 to {len(self._forks)}"
            raise UsageError(f"there is no fork {safe_line(which, 20)}", there)
        self._fork = int(which) - 1
        self._page(self.story) if self.story else self._say(f"this is fork {which}; its page is empty")

    # --- showing and saving -------------------------------------------------------------------------------------------

    def _show(self, _: str) -> None:
        if not self.story:
            self._say("the page is empty: type how a story begins")
            return
        self._page(self.story)
        told = self._now.told
        if told is not None:
            model = told.model if told.model != self._loaded.engine.label else self._loaded.engine.label
            kept = f", kept as {told.id}" if told.id else ""
            speed = told.tokens / max(told.seconds, 1e-9)
            self._say(f"({model}, seed {told.seed}, {told.tokens:,} tokens, {speed:,.0f} tokens/s{kept})")
        if len(self._forks) > 1:
            self._say(f"(fork {self._fork + 1} of {len(self._forks)})")

    def _history(self, words: str) -> None:
        from storyteller.cli.stories import listed
        from storyteller.inference import story_history

        found = story_history.recent(12, words)
        if not found:
            self._say("no kept story has that in it" if words else "no story is kept yet")
            return
        for line in listed(list(reversed(found)), self._columns()):
            self._paper.write(safe_line(line) + "\n")
        self._say("/again ID tells one again")

    def _save(self, name: str, over: bool = False) -> None:
        if not name:
            raise UsageError("there is no file name", "/save FILE")
        if not self.story:
            raise UsageError("there is no story to save yet", "type how one begins")
        path, shown = Path(name).expanduser(), safe_line(name, 200)
        text = self.story + ("" if self.story.endswith("\n") else "\n")
        try:
            with path.open("w" if over else "x", encoding="utf-8", errors="replace", newline="\n") as file:
                file.write(text)
        except FileExistsError:
            raise UsageError(f"{shown} is there already", f"/save! {shown} writes over it") from None
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise UsageError(f"{shown} cannot be written: {safe_line(reason)}", "name another file") from error
        self._say(f"saved to {shown}")

    # --- settings and models ------------------------------------------------------------------------------------------

    def _set(self, words: str) -> None:
        name, value = (*re.split(r"[\s=]+", words, maxsplit=1), "")[:2]
        if not name:
            values = dataclasses.asdict(self._sample)
            for line in table(("", ""), [(key, _setting(values[key])) for key in SETTINGS])[1:]:
                self._paper.write(line + "\n")
            return
        key = _named(name.lower().replace("-", "_").lstrip("_"), SETTINGS, "setting", lambda one: one)
        if not value:
            raise UsageError(f"{key} is {_setting(getattr(self._sample, key))}", f"/set {key} VALUE changes it")
        values = {f"sample.{each}": getattr(self._sample, each) for each in SETTINGS}
        stops = () if value == "none" else (value,)
        values[f"sample.{key}"] = stops if key == "stop" else value
        try:
            self._sample = section(SamplingParams, values, "sample")
        except UsageError as error:  # which calls it by its option's name
            raise UsageError(f"{key} {safe_line(value, 60)} is off", error.remedy) from error
        self._told = 0
        self._say(f"{key} is {_setting(getattr(self._sample, key))} now")

    def _model(self, name: str) -> None:
        if name:
            self._loaded.reopen(name)
        engine, follows = self._loaded.engine, ", and its newer checkpoints" if self._loaded.follows else ""
        self._say(f"stories are told by {engine.label}{follows}; it sees {engine.context:,} tokens at once")

    def _models(self, _: str) -> None:
        from storyteller.tracking import checkpoint_folders
        from storyteller.tracking.run_index import list_runs, summarise

        rows: list[tuple[str, str, str, str]] = []
        for run in list_runs(self._loaded.root)[:20]:
            steps = checkpoint_folders.steps(run)
            if steps:
                summary = summarise(run)
                bpb = f"{summary.eval_bpb:.3f}" if summary.eval_bpb is not None else "-"
                rows.append((run.name, summary.state, ", ".join(f"@{step}" for step in reversed(steps[-4:])), bpb))
        rows.append((STARTER, "at hand", "", ""))
        if self._columns() < 72:
            rows = [(name, steps or state, "", "") for name, state, steps, _ in rows]
            lines = table(("MODEL", "STEPS"), [row[:2] for row in rows])
        else:
            lines = table(("MODEL", "STATE", "STEPS", "BITS/BYTE"), rows, left=3)
        for line in lines:
            self._paper.write(line + "\n")

    def model_names(self) -> list[str]:
        """The names that `/model` takes, for completion."""
        from storyteller.tracking import checkpoint_folders
        from storyteller.tracking.run_index import list_runs

        names = []
        for run in list_runs(self._loaded.root):
            steps = checkpoint_folders.steps(run)
            names += (
                [run.name, *(f"{run.name}@{step}" for step in reversed(steps)), f"{run.name}@best"] if steps else []
            )
        return [*names, STARTER]

    # --- commands -----------------------------------------------------------------------------------------------------

    def _command(self, words: str) -> bool:
        name, _, rest = words.partition(" ")
        names = (*(command.name for command in COMMANDS), *_OTHER_NAMES)
        name = _named(name, names, "command", lambda one: f"/{one}")
        name = _OTHER_NAMES.get(name, name)
        if name == "bye":
            return False
        actions: dict[str, Callable[[str], None]] = {
            "again": self._again,
            "more": self._more,
            "undo": self._undo,
            "edit": self._edit,
            "fork": self._go_to_fork,
            "show": self._show,
            "set": self._set,
            "model": self._model,
            "models": self._models,
            "history": self._history,
            "save": self._save,
            "save!": lambda file: self._save(file, over=True),
            "help": self._help,
        }
        actions[name](rest.strip())
        return True

    def _help(self, _: str) -> None:
        for command in COMMANDS:
            head = f"/{command.name} {command.wants}".rstrip()
            if self._columns() < 60:
                self._paper.write(head + "\n")
                self._wrapped("  " + command.help, indent=2)
            else:
                self._wrapped(head.ljust(19) + command.help, indent=19)
        self._wrapped(
            "A line begins a new story. A model that was named without a step is followed: each story is told by the "
            "newest checkpoint of its run. The beginning of a command will do; // begins a story with a slash."
        )

    def welcome(self) -> None:
        """What is said at the start."""
        self._wrapped(_WELCOME)

    def _say(self, line: str) -> None:
        self._wrapped(line)

    def _wrapped(self, line: str, indent: int = 0) -> None:
        width = max(self._columns() - 1, 20)
        lines = textwrap.wrap(safe_line(line), width, subsequent_indent=" " * indent, break_on_hyphens=False)
        self._paper.write("\n".join(lines) + "\n")

    def _page(self, text: str) -> None:
        page = Page(self._paper, self._columns)
        page.write(text)
        page.end()


def run_session(loaded: Loaded, sample: SamplingParams, keeps: bool) -> int:
    """Read lines and answer them until Ctrl-D; the exit status."""
    from storyteller.cli.line_editor import line_reader

    session = Session(loaded, sample, Paper(sys.stdout), HistoryWriter(keeps))
    session.welcome()
    read = line_reader(session.model_names)
    while True:
        session.look()
        try:
            line = read(session.label)
        except EOFError:
            return 0
        except KeyboardInterrupt:
            continue
        if not session.answer(line):
            return 0


def _named(given: str, names: Sequence[str], kind: str, shown: Callable[[str], str]) -> str:
    """The name that was given whole, or whose beginning no other has. Raises UsageError, with the nearest."""
    if given in names:
        return given
    begun = [name for name in names if name.startswith(given)] if given else []
    if len(begun) == 1:
        return begun[0]
    mine = shown(safe_line(given, 40))
    if begun:
        raise UsageError(f"{mine} could be {', '.join(map(shown, begun))}", "give more of it")
    close = difflib.get_close_matches(given, names, n=2, cutoff=0.5)
    there = f"did you mean {' or '.join(map(shown, close))}?" if close else f"there is {', '.join(map(shown, names))}"
    raise UsageError(f"there is no {kind} {mine}", there)


def _setting(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return ", ".join(map(repr, value)) if isinstance(value, tuple | list) else str(value)
