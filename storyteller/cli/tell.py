"""`storyteller tell`: a story, streamed word by word; many at once from a file; alone at a terminal, a session."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from storyteller.cli.loaded_model import Loaded
from storyteller.cli.story_output import Paper, Sheet, note
from storyteller.config.configs import SamplingParams
from storyteller.errors import DiskError, UsageError
from storyteller.text import safe_line

_DEFAULTS = SamplingParams()
_PROMPT_LIMIT_CHARS = 1_000_000
_SETTINGS = tuple(field.name for field in dataclasses.fields(SamplingParams))


def tell(
    ctx: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="How the story begins; - or a pipe: read from standard input.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="RUN, RUN@STEP, RUN@best, starter, a checkpoint folder or owner/name on the Hub.  "
            "[the newest run that has a checkpoint, else starter]"
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens told after the prompt.")] = _DEFAULTS.max_tokens,
    temperature: Annotated[
        float, typer.Option(help="Lower is safer, higher is wilder; 0: the likeliest token each time.")
    ] = _DEFAULTS.temperature,
    top_k: Annotated[int, typer.Option(help="Only the so many likeliest tokens; 0: all.")] = _DEFAULTS.top_k,
    top_p: Annotated[
        float, typer.Option(help="Only the likeliest tokens that together have this probability.")
    ] = _DEFAULTS.top_p,
    min_p: Annotated[
        float, typer.Option(help="Only tokens at least so likely as this share of the likeliest; 0: all.")
    ] = _DEFAULTS.min_p,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1, tokens told already become less likely.")
    ] = _DEFAULTS.repetition_penalty,
    no_repeat_ngram: Annotated[
        int, typer.Option(help="No run of so many tokens is told twice; 0: any may be.")
    ] = _DEFAULTS.no_repeat_ngram,
    beams: Annotated[
        int, typer.Option(help="Above 1: search for the likeliest story with so many beams; nothing is drawn then.")
    ] = _DEFAULTS.beams,
    seed: Annotated[int | None, typer.Option(help="The same seed tells the same story.")] = None,
    count: Annotated[int, typer.Option(help="Stories to tell from each prompt; more than one are told at once.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="Text at which the story is cut; may be repeated.")] = None,
    file: Annotated[
        str | None, typer.Option(help='Prompts to tell from at once, one a line, or .jsonl of {"prompt": ...}; - too.')
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the stories there; .jsonl: as --json does.")] = None,
    again: Annotated[
        str | None, typer.Option(help="Tell a kept story again, by its id (storyteller stories) or latest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each story.")] = False,
    no_keep: Annotated[
        bool, typer.Option("--no-keep", help="Do not keep the story among storyteller stories.")
    ] = False,
    numbers: Annotated[
        Literal["fp32", "int8"], typer.Option(help="What the model computes with; int8 is faster, a little less exact.")
    ] = "fp32",
    runs_dir: Annotated[Path | None, typer.Option(help="Where runs lie.  [STORYTELLER_RUNS, else runs/]")] = None,
    threads: Annotated[int, typer.Option(help="Threads of the CPU; 0: a default.")] = 0,
) -> int:
    """Tell a story. Without a prompt at a terminal: a session, in which /help says what can be done.

    Example: storyteller tell "Once there was a little boy"
    """
    given = {name: value for name, value in ctx.params.items() if _was_given(ctx, name)}
    sample = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        no_repeat_ngram=no_repeat_ngram,
        beams=beams,
        seed=seed,
        stop=tuple(stop or ()),
    )
    _check_range("--count", count, 1, 10_000)
    _check_range("--threads", threads, 0, 1024)
    if again is not None:
        _check_alone("--again", given, ("prompt", "file", "count"))
        return _tell_again(again, given, as_json, out, keeps=not no_keep)
    if file is not None:
        _check_alone("--file", given, ("prompt",))
        return _tell_file(file, Loaded(model, runs_dir, threads, numbers), sample, count, as_json, out, not no_keep)
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if prompt is None and at_terminal and not as_json and out is None:
        _check_alone("a session", given, ("count",))
        from storyteller.cli.tell_session import run_session

        with Loaded(model, runs_dir, threads, numbers) as loaded:
            return run_session(loaded, sample, keeps=not no_keep)
    text = _prompt(prompt)
    with Loaded(model, runs_dir, threads, numbers) as loaded, _paper(out) as paper:
        if count > 1:
            return _tell_several(loaded, text, sample, count, _sheet(paper, as_json, out), keeps=not no_keep)
        return _tell_one(loaded, text, sample, _sheet(paper, as_json, out), keeps=not no_keep)


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _check_range(option: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{option} {value} is off", f"it wants {least:,} to {most:,}")


def _check_alone(option: str, given: dict[str, Any], others: tuple[str, ...]) -> None:
    """Raises UsageError where one of the others was given too."""
    for other in others:
        if other in given:
            shown = "a prompt" if other == "prompt" else f"--{other}"
            raise UsageError(f"{option} does not go with {shown}", "give one of them")


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


@contextlib.contextmanager
def _paper(out: Path | None) -> Iterator[Paper]:
    """Standard output, or the file, begun anew. Raises DiskError where it cannot be written."""
    if out is None:
        yield Paper(sys.stdout)
        return
    name = safe_line(str(out), 200)
    try:
        stream = out.open("w", encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise DiskError(f"{name} cannot be written: {reason}", "check the path") from error
    with stream:
        yield Paper(stream, name)


def _sheet(paper: Paper, as_json: bool, out: Path | None) -> Sheet:
    return Sheet(paper, as_json or (out is not None and out.suffix == ".jsonl"))


def _tell_one(loaded: Loaded, prompt: str, sample: SamplingParams, sheet: Sheet, keeps: bool) -> int:
    """A story, streamed; as JSON when it is whole."""
    from storyteller.cli.tell_stream import HistoryWriter, sign, tell_aloud
    from storyteller.inference.engine import with_seed

    sample = with_seed(sample)
    heard = tell_aloud(loaded.engine, prompt, sample, None if sheet.as_json else sheet.paper, echo=prompt)
    if heard.stopped and not heard.text:
        return 130
    told = HistoryWriter(keeps).keep(loaded, prompt, sample, heard)
    sign(told, loaded.engine.label, heard, sheet)
    return 130 if heard.stopped else 0


def _tell_several(loaded: Loaded, prompt: str, sample: SamplingParams, count: int, sheet: Sheet, keeps: bool) -> int:
    from storyteller.cli.tell_batch import tell_many
    from storyteller.cli.tell_stream import HistoryWriter
    from storyteller.evaluation.prompts import Asked

    return tell_many(loaded, [Asked(prompt)] * count, count, sample, sheet, HistoryWriter(keeps))


def _tell_file(
    file: str, loaded: Loaded, sample: SamplingParams, count: int, as_json: bool, out: Path | None, keeps: bool
) -> int:
    from storyteller.cli.tell_batch import tell_many
    from storyteller.cli.tell_stream import HistoryWriter
    from storyteller.evaluation.prompts import read_prompts

    with loaded:
        if out is not None and file != "-" and out.exists() and Path(file).exists() and out.samefile(file):
            raise UsageError("--out is the file of prompts", "write the stories to another file")
        asked, total = read_prompts(file)
        rows = (each for each in asked for _ in range(count))
        with _paper(out) as paper:
            sheet = _sheet(paper, as_json, out)
            return tell_many(
                loaded, rows, None if total is None else total * count, sample, sheet, HistoryWriter(keeps)
            )


def _tell_again(identity: str, given: dict[str, Any], as_json: bool, out: Path | None, keeps: bool) -> int:
    """A kept story, told again with what was given anew in place of what it was told with."""
    from storyteller.cli.tell_replay import open_again, retell
    from storyteller.cli.tell_stream import HistoryWriter
    from storyteller.inference import story_history

    told = story_history.find(identity)
    changes: dict[str, Any] = {
        name: tuple(given[name]) if name == "stop" else given[name] for name in _SETTINGS if name in given
    }
    with open_again(told, given) as loaded, _paper(out) as paper:
        sample = dataclasses.replace(told.sample, **changes)
        heard, remark = retell(loaded, told, sample, _sheet(paper, as_json, out), HistoryWriter(keeps))
    if remark:
        note(remark)
    return 130 if heard.stopped else 0
