"""`storyteller tell`: stream a story, generate many at once from a file of prompts, or open an interactive session."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from storyteller.cli.loaded_model import LoadedModel
from storyteller.cli.story_output import OutputStream, StoryWriter, warn
from storyteller.cli.tell_stream import HistoryWriter, finish_story, stream_story
from storyteller.config.configs import SamplingParams
from storyteller.errors import DiskError, UsageError, invalid_value
from storyteller.text import safe_line

_DEFAULTS = SamplingParams()
_PROMPT_LIMIT_CHARS = 1_000_000
_sampling = partial(typer.Option, rich_help_panel="Sampling")
_many = partial(typer.Option, rich_help_panel="Many stories")
_SETTINGS = tuple(field.name for field in dataclasses.fields(SamplingParams))


def tell(
    ctx: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="Beginning of the story; - reads it from standard input, as a pipe does."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="RUN, RUN@STEP, RUN@best, starter, a checkpoint folder or owner/name on the Hub.  "
            "[default: the newest run with a checkpoint, else starter]",
        ),
    ] = None,
    max_tokens: Annotated[int, _sampling(help="Most tokens to generate after the prompt.")] = _DEFAULTS.max_tokens,
    temperature: Annotated[
        float, _sampling(help="Softmax temperature; 0 always takes the most likely token.")
    ] = _DEFAULTS.temperature,
    top_k: Annotated[int, _sampling(help="Sample from the K most likely tokens; 0: from all.")] = _DEFAULTS.top_k,
    top_p: Annotated[
        float,
        _sampling(
            help="Nucleus sampling: sample from the smallest set of tokens whose probabilities sum to at least X; "
            "1: from all."
        ),
    ] = _DEFAULTS.top_p,
    min_p: Annotated[
        float, _sampling(help="Drop tokens less likely than X times the most likely one; 0: none.")
    ] = _DEFAULTS.min_p,
    repetition_penalty: Annotated[
        float, _sampling(help="Above 1 makes tokens that were already generated less likely.")
    ] = _DEFAULTS.repetition_penalty,
    no_repeat_ngram: Annotated[
        int, _sampling(help="Never generate the same N tokens in a row twice; 0: no limit.")
    ] = _DEFAULTS.no_repeat_ngram,
    beams: Annotated[int, _sampling(help="Above 1: beam search with N beams, without sampling.")] = _DEFAULTS.beams,
    seed: Annotated[int | None, _sampling(help="The same seed gives the same story.  [default: random]")] = None,
    count: Annotated[int, _many(help="Stories for each prompt, generated in batches.")] = 1,
    stop: Annotated[list[str] | None, _sampling(help="Text at which generation stops; repeatable.")] = None,
    file: Annotated[
        str | None,
        _many(metavar="PATH", help='File of prompts, one a line or .jsonl of {"prompt": ...}; - is standard input.'),
    ] = None,
    out: Annotated[Path | None, _many(help="Write the stories to this file; .jsonl as --json does.")] = None,
    again: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Repeat a kept story by its id (see storyteller stories), or latest."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line for each story.")] = False,
    no_keep: Annotated[
        bool, typer.Option("--no-keep", help="Do not add the story to the history (storyteller stories).")
    ] = False,
    compute_type: Annotated[
        Literal["fp32", "int8"], typer.Option(help="Arithmetic of the model; int8 is faster and slightly less exact.")
    ] = "fp32",
    numbers: Annotated[Literal["fp32", "int8"] | None, typer.Option(hidden=True)] = None,
    runs_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the runs.  [default: $STORYTELLER_RUNS, else runs/]")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 chooses by machine and model.")] = 0,
) -> int:
    """Tell a story. Without a prompt at a terminal, open a session (type /help there).

    Example: storyteller tell "Once there was a little boy"
    """
    given = {name: value for name, value in ctx.params.items() if _was_given(ctx, name)}
    if numbers is not None and "compute_type" not in given:  # the earlier name of the option
        given["compute_type"] = compute_type = numbers
    params = SamplingParams(
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
        return _tell_file(
            file, LoadedModel(model, runs_dir, threads, compute_type), params, count, as_json, out, not no_keep
        )
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if prompt is None and at_terminal and not as_json and out is None:
        _check_alone("a session", given, ("count",))
        pass

        with LoadedModel(model, runs_dir, threads, compute_type) as loaded:
            return _run_session(loaded, params, keeps=not no_keep)
    text = _prompt(prompt)
    with LoadedModel(model, runs_dir, threads, compute_type) as loaded, _open_output(out) as stream:
        if count > 1:
            return _tell_several(loaded, text, params, count, _story_writer(stream, as_json, out), keeps=not no_keep)
        return _tell_one(loaded, text, params, _story_writer(stream, as_json, out), keeps=not no_keep)


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _check_range(option: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise invalid_value(option, value, f"{least:,} to {most:,}")


def _check_alone(option: str, given: dict[str, Any], others: tuple[str, ...]) -> None:
    """Raise UsageError where one of `others` was given together with `option`."""
    for other in others:
        if other in given:
            shown = "a prompt" if other == "prompt" else f"--{other}"
            raise UsageError(f"{option} cannot be combined with {shown}", "give one of them")


def _prompt(prompt: str | None) -> str:
    """Return the prompt, read from standard input where it is `-` or missing. Raises UsageError for a blank one."""
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
def _open_output(out: Path | None) -> Iterator[OutputStream]:
    """Open standard output, or the file for overwriting. Raises DiskError where it cannot be written."""
    if out is None:
        yield OutputStream(sys.stdout)
        return
    name = safe_line(str(out), 200)
    try:
        stream = out.open("w", encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise DiskError(f"{name} cannot be written: {reason}", "check the path") from error
    with stream:
        yield OutputStream(stream, name)


def _story_writer(stream: OutputStream, as_json: bool, out: Path | None) -> StoryWriter:
    return StoryWriter(stream, as_json or (out is not None and out.suffix == ".jsonl"))


def _tell_one(loaded: LoadedModel, prompt: str, params: SamplingParams, writer: StoryWriter, keeps: bool) -> int:
    """Stream one story; as JSON it is printed when it is complete."""
    from storyteller.inference.engine import with_seed

    params = with_seed(params)
    story = stream_story(loaded.engine, prompt, params, None if writer.as_json else writer.stream, echo=prompt)
    if story.stopped and not story.text:
        return 130
    told = HistoryWriter(keeps).keep(loaded, prompt, params, story)
    finish_story(told, loaded.engine.label, story, writer)
    return 130 if story.stopped else 0


def _tell_several(
    loaded: LoadedModel, prompt: str, params: SamplingParams, count: int, writer: StoryWriter, keeps: bool
) -> int:
    from storyteller.cli.tell_batch import generate_and_write
    from storyteller.evaluation.prompts import PromptRequest

    return generate_and_write(loaded, [PromptRequest(prompt)] * count, count, params, writer, HistoryWriter(keeps))


def _tell_file(
    file: str, loaded: LoadedModel, params: SamplingParams, count: int, as_json: bool, out: Path | None, keeps: bool
) -> int:
    from storyteller.cli.tell_batch import generate_and_write
    from storyteller.evaluation.prompts import read_prompts

    with loaded:
        if out is not None and file != "-" and out.exists() and Path(file).exists() and out.samefile(file):
            raise UsageError("--out is the file of prompts", "write the stories to another file")
        asked, total = read_prompts(file)
        rows = (each for each in asked for _ in range(count))
        with _open_output(out) as stream:
            writer = _story_writer(stream, as_json, out)
            return generate_and_write(
                loaded, rows, None if total is None else total * count, params, writer, HistoryWriter(keeps)
            )


def _tell_again(identity: str, given: dict[str, Any], as_json: bool, out: Path | None, keeps: bool) -> int:
    """Repeat a kept story; options given now take the place of those it was generated with."""
    from storyteller.cli.tell_replay import regenerate, reopen_model
    from storyteller.inference import story_history

    told = story_history.find(identity)
    changes: dict[str, Any] = {
        name: tuple(given[name]) if name == "stop" else given[name] for name in _SETTINGS if name in given
    }
    with reopen_model(told, given) as loaded, _open_output(out) as stream:
        params = dataclasses.replace(told.sample, **changes)
        story, remark = regenerate(loaded, told, params, _story_writer(stream, as_json, out), HistoryWriter(keeps))
    if remark:
        warn(remark)
    return 130 if story.stopped else 0


def _run_session(loaded: LoadedModel, params: SamplingParams, keeps: bool) -> int:
    """Read and execute lines until Ctrl-D. Returns the exit status."""
    from storyteller.cli.line_editor import line_reader
    from storyteller.cli.tell_session import Session

    session = Session(loaded, params, OutputStream(sys.stdout), HistoryWriter(keeps))
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
