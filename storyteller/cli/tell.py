"""`storyteller tell`: a story, streamed word by word; without a prompt at a terminal, a session."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from storyteller.config import Sample
from storyteller.errors import RunError, UsageError
from storyteller.text import safe, safe_line

if TYPE_CHECKING:
    from storyteller.engine import Engine, Story

_DEFAULTS = Sample()
_PROMPT_LIMIT_CHARS = 1_000_000
_HELP = "a line begins a story, an empty one goes on with it, /bye or Ctrl-D leaves, Ctrl-C stops a sentence"


def tell(
    prompt: Annotated[
        str | None, typer.Argument(help="How the story begins; - or a pipe: read from standard input.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="RUN, RUN@STEP, RUN@best, a checkpoint folder or owner/name on the Hub.  [the newest run]"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens told after the prompt.")] = _DEFAULTS.max_tokens,
    temperature: Annotated[
        float, typer.Option(help="Lower is safer, higher is wilder; 0: the likeliest token each time.")
    ] = _DEFAULTS.temperature,
    top_k: Annotated[int, typer.Option(help="Only the so many likeliest tokens; 0: all.")] = _DEFAULTS.top_k,
    top_p: Annotated[
        float, typer.Option(help="Only the likeliest tokens that together have this probability.")
    ] = _DEFAULTS.top_p,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1, tokens told already become less likely.")
    ] = _DEFAULTS.repetition_penalty,
    seed: Annotated[int | None, typer.Option(help="The same seed tells the same story.")] = None,
    count: Annotated[int, typer.Option(help="Stories to tell, each with the next seed.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="Text at which the story is cut; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each story.")] = False,
    runs_dir: Annotated[Path | None, typer.Option(help="Where runs lie.  [STORYTELLER_RUNS, else runs/]")] = None,
    threads: Annotated[int, typer.Option(help="Threads of the CPU; 0: a default.")] = 0,
) -> None:
    """Tell a story.

    Example: storyteller tell "Once there was a little boy"
    """
    sample = Sample(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
    )
    _check_range("--count", count, 1, 10_000)
    _check_range("--threads", threads, 0, 1024)
    talk = prompt is None and sys.stdin.isatty() and not as_json
    given = "" if talk else _prompt(prompt)
    with _open(model, runs_dir, threads) as engine:
        if talk:
            _session(engine, sample)
        elif as_json:
            _print_json(engine, given, sample, count)
        else:
            _print(engine, given, sample, count)


def _check_range(option: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{option} {value} is off", f"it wants {least:,} to {most:,}")


def _prompt(prompt: str | None) -> str:
    """The prompt, read from standard input where it is `-` or missing. Raises UsageError where it is blank."""
    if prompt is None or prompt == "-":
        if prompt is None and sys.stdin.isatty():
            raise UsageError("there is no prompt", 'give one: storyteller tell "Once there was a little boy"')
        text = sys.stdin.buffer.read(4 * _PROMPT_LIMIT_CHARS + 1).decode("utf-8", "replace").rstrip("\n")
    else:
        text = prompt
    if not text.strip():
        raise UsageError("the prompt is empty", 'give one: storyteller tell "Once there was a little boy"')
    if len(text) > _PROMPT_LIMIT_CHARS:
        raise UsageError(f"the prompt has more than {_PROMPT_LIMIT_CHARS:,} characters", "give a shorter one")
    return text


def _open(model: str | None, runs_dir: Path | None, threads: int) -> Engine:
    from storyteller.engine import open_model
    from storyteller.runs.layout import runs_root

    root = runs_root(runs_dir)
    return open_model(
        model if model is not None else _newest(root),
        root,
        threads,
        log=lambda line: print(f"storyteller: {safe_line(line)}", file=sys.stderr),
    )


def _newest(root: Path) -> str:
    """The newest run that has a checkpoint."""
    from storyteller.runs import checkpoints
    from storyteller.runs.store import list_runs

    runs = list_runs(root)
    for run in runs:
        if checkpoints.steps(run):
            return run.name
    if runs:
        raise RunError("no run has a checkpoint yet", "wait for the first (storyteller ps), or name another --model")
    raise RunError(
        f"there is no model to tell from: no runs in {safe_line(str(root), 200)}",
        "train one with storyteller train, or name one with --model",
    )


def _samples(sample: Sample, count: int) -> Iterator[Sample]:
    """`count` samples, each with a seed: the given or drawn one, and those that follow it."""
    import dataclasses

    from storyteller.engine import with_seed

    first = with_seed(sample).seed or 0
    for number in range(count):
        yield dataclasses.replace(sample, seed=(first + number) % 2**32)


def _print_json(engine: Engine, prompt: str, sample: Sample, count: int) -> None:
    for one in _samples(sample, count):
        story = engine.batch([prompt], one)[0]
        print(
            json.dumps(
                {
                    "text": story.prompt + story.text,
                    "prompt": story.prompt,
                    "story": story.text,
                    "tokens": story.tokens,
                    "seconds": round(story.seconds, 4),
                    "seed": story.seed,
                    "model": engine.label,
                    "finished": story.finished,
                }
            ),
            flush=True,
        )


def _print(engine: Engine, prompt: str, sample: Sample, count: int) -> None:
    for number, one in enumerate(_samples(sample, count), 1):
        if count > 1:
            print(f"{number}.", flush=True)
        try:
            story = _show(engine, prompt, one, echo=prompt)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        if sys.stdout.isatty() and sys.stderr.isatty():
            print(_note(engine, story), file=sys.stderr)


def _note(engine: Engine, story: Story) -> str:
    speed = story.tokens / max(story.seconds, 1e-9)
    return f"({safe_line(engine.label)}, seed {story.seed}, {story.tokens:,} tokens, {speed:,.0f} tokens/s)"


def _show(engine: Engine, prompt: str, sample: Sample, echo: str, told: list[str] | None = None) -> Story:
    """Stream a story, `echo` before it; `told` keeps the pieces also where Ctrl-C ends it. The line is always ended."""
    page = Page(sys.stdout)
    pieces = engine.stream(prompt, sample)
    try:
        page.write(echo)
        while True:
            piece = next(pieces)
            if told is not None:
                told.append(piece)
            page.write(piece)
    except StopIteration as end:
        story: Story = end.value
        return story
    finally:
        pieces.close()
        page.end()


# --- the session ------------------------------------------------------------------------------------------------------


def _session(engine: Engine, sample: Sample) -> None:
    """Read a line, tell a story; until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  gives `input` a history and editing
    print(f"{safe_line(engine.label)}: {_HELP}")
    story = ""
    for line in _lines("> "):
        command = line.strip()
        if command in ("/bye", "/exit", "/quit"):
            return
        if command.startswith("/"):
            print(f"there is no {safe_line(command, 40)}: {_HELP}")
        elif command or story:
            story = _turn(engine, sample, story, line)
        else:
            print(_HELP)


def _lines(prompt: str) -> Iterator[str]:
    while True:
        try:
            yield input(prompt)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()


def _turn(engine: Engine, sample: Sample, story: str, line: str) -> str:
    """Begin a story with `line`, or go on with `story` where the line is blank; the whole of it so far."""
    begun = line if line.strip() else story
    told: list[str] = []
    try:
        _show(engine, line if line.strip() else engine.recent(story), sample, echo=line.strip() and line, told=told)
    except KeyboardInterrupt:
        pass
    except UsageError as error:
        print(f"storyteller: {safe_line(str(error))}", file=sys.stderr)
        return story
    return begun + "".join(told)


# --- the page ---------------------------------------------------------------------------------------------------------


class Page:
    """Text written as it comes, made safe; at a terminal, wrapped between words."""

    def __init__(self, out: TextIO, columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns) -> None:
        self._out = out
        self._columns = columns if out.isatty() else lambda: 0
        self._column = 0
        self._space = ""
        self._word = ""
        self._empty = True
        # A terminal that cannot show a character gets a question mark, not an error.
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")

    def write(self, piece: str) -> None:
        """Show `piece`; at a terminal, its last word waits for what follows."""
        shown = safe(piece)
        self._empty = self._empty and not shown
        if self._columns() < 2:
            self._out.write(shown)
        else:
            for character in shown:
                self._take(character)
        self._out.flush()

    def end(self) -> None:
        """Show what waits, and end the line."""
        self._flush_word()
        if not self._empty:
            self._out.write("\n")
        self._out.flush()

    def _take(self, character: str) -> None:
        if character == "\n":
            self._flush_word()
            self._out.write("\n")
            self._column, self._space = 0, ""
        elif character in " \t":
            self._flush_word()
            self._space += "    " if character == "\t" else " "
        else:
            self._word += character

    def _flush_word(self) -> None:
        """Show the word, on a line where it fits; one longer than a line is broken."""
        width = max(self._columns() - 1, 1)
        if not self._word:
            return
        if self._column and self._column + len(self._space) + _cells(self._word) > width:
            self._out.write("\n")
            self._column, self._space = 0, ""
        self._out.write(self._space)
        self._column += len(self._space)
        for character in self._word:
            if self._column + _cells(character) > width and self._column:
                self._out.write("\n")
                self._column = 0
            self._out.write(character)
            self._column += _cells(character)
        self._word = self._space = ""


def _cells(text: str) -> int:
    """Columns that a terminal gives `text`."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
