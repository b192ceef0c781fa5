"""The interactive session of `tell`: generate, continue, undo, edit and fork stories by typed lines.

    Session(loaded, params, stream, history).answer("/again")

This module interprets the lines; `line_editor` reads them (editing, history, completion).
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from storyteller.cli.external_editor import echo_off, edit_text
from storyteller.cli.story_output import (
    HistoryWriter,
    OutputStream,
    StoryWriter,
    describe_story,
    stream_story,
    terminal_columns,
    write_wrapped,
)
from storyteller.cli.text_tables import number, table
from storyteller.config.configs import PROMPTS, STARTER, SamplingParams, section
from storyteller.errors import StorytellerError, UsageError
from storyteller.inference import story_history
from storyteller.inference.generate import with_seed
from storyteller.inference.loaded_model import LoadedModel
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import list_runs, summarise

SETTINGS = tuple(field.name for field in dataclasses.fields(SamplingParams))


class SessionCommand(NamedTuple):
    """A command of the session, which `Session._do_NAME` executes."""

    name: str
    arguments: str
    help: str


COMMANDS = (
    SessionCommand("again", "[ID]", "generate the last part again; ID: repeat a kept story"),
    SessionCommand("more", "[WORDS]", "continue the story, after WORDS of yours; Enter alone does the same"),
    SessionCommand("undo", "", "undo the last change"),
    SessionCommand("edit", "", "edit the story in $VISUAL or $EDITOR"),
    SessionCommand("fork", "[N]", "keep the story and continue with a copy; N: return to fork N"),
    SessionCommand("show", "", "print the whole story and how it was generated"),
    SessionCommand("set", "[NAME VALUE]", "change a sampling parameter: /set temperature 0.7; alone: list them"),
    SessionCommand("model", "[NAME]", "switch to another model: RUN, RUN@STEP, a folder, owner/name"),
    SessionCommand("models", "", "list the models"),
    SessionCommand("history", "[WORDS]", "list kept stories, with WORDS in them"),
    SessionCommand("save", "FILE", "write the story to a file; /save! overwrites"),
    SessionCommand("help", "", "list the commands"),
    SessionCommand("bye", "", "leave, as Ctrl-D does"),
)
_OTHER_NAMES = {"exit": "bye", "quit": "bye", "?": "help", "save!": "save!"}
_MOST_RUNS = 20
_WELCOME = "Type the beginning of a story. Enter continues it, Ctrl-C stops it, /help lists commands, Ctrl-D leaves."


@dataclass(frozen=True)
class SessionState:
    """The story after one change, for undo."""

    text: str = ""
    prompt_chars: int = 0
    """Length of the prompt of the part generated last, which is the rest of the text."""
    goes_on: bool = False
    """True if that prompt was an unfinished story, of which the model was given the newest part that fits."""
    record: story_history.StoryRecord | None = None
    """The record of the part generated last."""


class Session:
    """The state of a session and the effect of each line on it."""

    def __init__(
        self,
        loaded: LoadedModel,
        params: SamplingParams,
        stream: OutputStream,
        history: HistoryWriter,
        columns: Callable[[], int] = terminal_columns,
    ) -> None:
        self._loaded = loaded
        self._params = params
        self._stream = stream
        self._history = history
        self._columns = columns
        self._forks: list[list[SessionState]] = [[SessionState()]]
        self._fork = 0
        self._n_seeded = 0
        """Stories generated since a seed was set."""

    @property
    def label(self) -> str:
        """Name of the model on the input line."""
        return safe_line(self._loaded.engine.label)

    @property
    def story(self) -> str:
        """The story so far."""
        return self._now.text

    @property
    def _states(self) -> list[SessionState]:
        """The states of the current fork, the newest last."""
        return self._forks[self._fork]

    @property
    def _now(self) -> SessionState:
        return self._states[-1]

    def answer(self, line: str) -> bool:
        """Executes a line. Returns False if it leaves the session. Errors and Ctrl-C end only this line."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                return self._command(line.strip()[1:])
            prompt = line[1:] if line.startswith("//") else line
            if prompt.strip():
                self._generate(prompt, goes_on=False, echo=prompt)
            else:
                self._do_more("")
        except StorytellerError as error:
            self._say(str(error))
        except KeyboardInterrupt:
            self._stream.write("\n")
        return True

    def update_model(self) -> None:
        """Between stories: yields the CPU to a training run, and switches to a newer checkpoint or announces it."""
        before = self.label
        with contextlib.suppress(StorytellerError):
            self._loaded.yield_cpu_to_training()
        newer, run = self._loaded.newer_checkpoint(), self._loaded.run
        if newer is not None and run is not None:
            if not self._loaded.follows_newest:
                self._say(f"{newer} is newer: /model {run}")
                return
            try:
                self._loaded.reopen(self._loaded.reference)
            except StorytellerError as error:
                self._say(f"{newer} is newer, but {error.problem}")
                return
        if self.label != before:
            self._say(f"now generating with {self.label}")

    # --- generating ---------------------------------------------------------------------------------------------------

    def _generate(self, prompt: str, *, goes_on: bool, echo: str) -> None:
        """Generates a continuation of `prompt`. The result becomes the story, also if Ctrl-C stopped it."""
        self.update_model()
        params = self._seeded_params()
        given = self._loaded.engine.recent(prompt) if goes_on else prompt
        with echo_off():
            story, _ = stream_story(self._loaded.engine, given, params, self._stream, echo=echo)
        record = self._history.keep(self._loaded, prompt, params, story, goes_on=goes_on) if story.text else None
        self._states.append(SessionState(prompt + story.text, len(prompt), goes_on, record))

    def _seeded_params(self) -> SamplingParams:
        """Returns the parameters with a seed: a random one or, if one was set, the next one each time."""
        if self._params.seed is None:
            return with_seed(self._params)
        seed = (self._params.seed + self._n_seeded) % 2**32
        self._n_seeded += 1
        return dataclasses.replace(self._params, seed=seed)

    def _do_more(self, words: str) -> None:
        if self.story:
            gap = " " if words and not self.story[-1].isspace() else ""
            self._generate(self.story + gap + words, goes_on=True, echo=words)
        else:
            prompt = words or PROMPTS[0]
            self._generate(prompt, goes_on=False, echo=prompt)

    def _do_again(self, story_id: str) -> None:
        if story_id:
            self._repeat(story_id)
            return
        now = self._now
        prompt = now.text[: now.prompt_chars]
        if prompt:
            self._generate(prompt, goes_on=now.goes_on, echo="" if now.goes_on else prompt)
        else:
            self._say("there is no story yet: type how one begins")

    def _repeat(self, story_id: str) -> None:
        """Repeats a kept story with its own model and sampling parameters; those of the session stay."""
        from storyteller.cli.tell_replay import regenerate, reopen_model

        record = story_history.find(story_id)
        writer = StoryWriter(self._stream, as_json=False)
        with reopen_model(record, {}) as loaded, echo_off():
            story, _, message = regenerate(loaded, record, record.sample, writer, self._history)
        if message:
            self._say(message)
        self._states.append(SessionState(record.prompt + story.text, len(record.prompt), record.goes_on, record))

    # --- undo, edit, fork ---------------------------------------------------------------------------------------------

    def _do_undo(self, _: str) -> None:
        if len(self._states) == 1:
            self._say("there is nothing to undo")
            return
        self._states.pop()
        self._print_story("the page is empty again")

    def _do_edit(self, _: str) -> None:
        changed = edit_text(self.story)
        if changed == self.story:
            self._say("nothing was changed")
            return
        self._states.append(SessionState(changed, len(changed), goes_on=True))
        self._print_story("the page is empty again")

    def _do_fork(self, which: str) -> None:
        if not which:
            if not self.story:
                self._say("there is no story to fork yet")
                return
            self._forks.append(list(self._states))
            kept, self._fork = self._fork + 1, len(self._forks) - 1
            self._say(f"this is fork {self._fork + 1}; /fork {kept} returns to the story as it was")
            return
        if not which.isdecimal() or not 1 <= int(which) <= len(self._forks):
            there = "there is fork 1 alone" if len(self._forks) == 1 else f"there are forks 1 to {len(self._forks)}"
            raise UsageError(f"there is no fork {safe_line(which, 20)}", there)
        self._fork = int(which) - 1
        self._print_story(f"this is fork {which}; its page is empty")

    # --- showing and saving -------------------------------------------------------------------------------------------

    def _do_show(self, _: str) -> None:
        self._print_story("the page is empty: type how a story begins")
        if self.story and self._now.record is not None:
            self._say(describe_story(self._now.record, self._now.record.model))
        if self.story and len(self._forks) > 1:
            self._say(f"(fork {self._fork + 1} of {len(self._forks)})")

    def _do_history(self, words: str) -> None:
        from storyteller.cli.stories import story_table

        found = story_history.recent(12, words)
        if not found:
            self._say("no kept story has that in it" if words else "no story is kept yet")
            return
        self._write_lines(story_table(list(reversed(found)), self._columns()))
        self._say("/again ID repeats one")

    def _do_save(self, name: str, over: bool = False) -> None:
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

    def _do_set(self, words: str) -> None:
        name, value = (*re.split(r"[\s=]+", words, maxsplit=1), "")[:2]
        if not name:
            values = dataclasses.asdict(self._params)
            self._write_lines(table((), [(key, _setting(values[key])) for key in SETTINGS]))
            return
        key = _match_name(name.lower().replace("-", "_").lstrip("_"), SETTINGS, "setting", lambda one: one)
        if not value:
            raise UsageError(f"{key} is {_setting(getattr(self._params, key))}", f"/set {key} VALUE changes it")
        values = {f"sample.{each}": getattr(self._params, each) for each in SETTINGS}
        stops = () if value == "none" else (value,)
        values[f"sample.{key}"] = stops if key == "stop" else value
        try:
            self._params = section(SamplingParams, values, "sample")
        except UsageError as error:  # its message names the command-line option
            raise UsageError(f"invalid value {safe_line(value, 60)} for {key}", error.remedy) from error
        self._n_seeded = 0
        self._say(f"{key} is now {_setting(getattr(self._params, key))}")

    def _do_model(self, name: str) -> None:
        if name:
            self._loaded.reopen(name)
        engine, follows = self._loaded.engine, ", and its newer checkpoints" if self._loaded.follows_newest else ""
        self._say(f"model: {engine.label}{follows}; context {engine.context:,} tokens")

    def _runs(self) -> Iterator[tuple[RunFolder, list[int]]]:
        """Yields the runs that have checkpoints, newest first, with the steps of these."""
        for run in list_runs(self._loaded.root):
            if steps := checkpoint_folders.steps(run):
                yield run, steps

    def _do_models(self, _: str) -> None:
        rows: list[tuple[str, str, str, str]] = []
        for run, steps in itertools.islice(self._runs(), _MOST_RUNS):
            summary = summarise(run)
            newest_steps = ", ".join(f"@{step}" for step in reversed(steps[-4:]))
            rows.append((run.name, summary.state, newest_steps, number(summary.eval_bpb, ".3f")))
        rows.append((STARTER, "included", "", ""))
        if self._columns() < 72:
            lines = table(("MODEL", "STEPS"), [(name, steps or state) for name, state, steps, _ in rows])
        else:
            lines = table(("MODEL", "STATE", "STEPS", "BITS/BYTE"), rows, left=3)
        self._write_lines(lines)

    def model_names(self) -> list[str]:
        """Returns the names that `/model` accepts, for completion."""
        names: list[str] = []
        for run, steps in self._runs():
            names += [run.name, *(f"{run.name}@{step}" for step in reversed(steps)), f"{run.name}@best"]
        return [*names, STARTER]

    # --- commands -----------------------------------------------------------------------------------------------------

    def _command(self, words: str) -> bool:
        name, _, rest = words.partition(" ")
        names = (*(command.name for command in COMMANDS), *_OTHER_NAMES)
        name = _match_name(name, names, "command", lambda one: f"/{one}")
        name = _OTHER_NAMES.get(name, name)
        if name == "bye":
            return False
        if name == "save!":
            self._do_save(rest.strip(), over=True)
        else:
            getattr(self, f"_do_{name}")(rest.strip())
        return True

    def _do_help(self, _: str) -> None:
        for command in COMMANDS:
            head = f"/{command.name} {command.arguments}".rstrip()
            if self._columns() < 60:
                self._stream.write(head + "\n")
                self._say("  " + command.help, indent=2)
            else:
                self._say(head.ljust(19) + command.help, indent=19)
        self._say(
            "A line starts a new story. A run named without a step is followed: each story comes from its newest "
            "checkpoint. Commands can be abbreviated; // starts a story with a slash."
        )

    def welcome(self) -> None:
        """Prints the first line of the session."""
        self._say(_WELCOME)

    def _say(self, line: str, indent: int = 0) -> None:
        width = max(self._columns() - 1, 20)
        self._write_lines(textwrap.wrap(safe_line(line), width, subsequent_indent=" " * indent, break_on_hyphens=False))

    def _write_lines(self, lines: Sequence[str]) -> None:
        self._stream.write("\n".join(lines) + "\n")

    def _print_story(self, if_empty: str) -> None:
        if self.story:
            write_wrapped(self.story, self._stream, self._columns)
        else:
            self._say(if_empty)


def _match_name(given: str, names: Sequence[str], kind: str, shown: Callable[[str], str]) -> str:
    """Returns the name that `given` equals or uniquely abbreviates. Raises UsageError with the closest names."""
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
