"""`storyteller tell`: stream a story, generate many at once from a file of prompts, or open an interactive session."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storyteller.cli.options import ComputeType, RunsDir, argument, check_range, option, panel
from storyteller.cli.story_output import HistoryWriter, OutputStream, StoryWriter, finish_story, stream_story
from storyteller.cli.text_tables import warn
from storyteller.config.configs import SamplingParams
from storyteller.errors import UsageError, write_error
from storyteller.inference.generate import with_seed
from storyteller.inference.loaded_model import LoadedModel
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.evaluation.prompts import PromptRequest

_DEFAULTS = SamplingParams()
_PROMPT_LIMIT_CHARS = 1_000_000
_EXAMPLE = 'give one: storyteller tell "Once there was a little boy"'
_sampling, _many = panel("Sampling"), panel("Many stories")


def tell(
    ctx: typer.Context,
    prompt: Annotated[
        str | None,
        argument("Beginning of the story; - reads it from standard input, as a pipe does.", metavar="PROMPT"),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "RUN, RUN@STEP, RUN@best, starter, a checkpoint folder or owner/name on the Hub.  "
            "[default: the newest run with a checkpoint, else starter]",
            metavar="MODEL",
        ),
    ] = None,
    max_tokens: Annotated[int, _sampling("Most tokens to generate after the prompt.")] = _DEFAULTS.max_tokens,
    temperature: Annotated[
        float, _sampling("Softmax temperature; 0 always takes the most likely token.")
    ] = _DEFAULTS.temperature,
    top_k: Annotated[int, _sampling("Sample from the K most likely tokens; 0: from all.")] = _DEFAULTS.top_k,
    top_p: Annotated[
        float,
        _sampling(
            "Nucleus sampling: sample from the smallest set of tokens whose probabilities sum to at least X; "
            "1: from all."
        ),
    ] = _DEFAULTS.top_p,
    min_p: Annotated[
        float, _sampling("Drop tokens less likely than X times the most likely one; 0: none.")
    ] = _DEFAULTS.min_p,
    repetition_penalty: Annotated[
        float, _sampling("Above 1 makes tokens that were already generated less likely.")
    ] = _DEFAULTS.repetition_penalty,
    no_repeat_ngram: Annotated[
        int, _sampling("Never generate the same N tokens in a row twice; 0: no limit.")
    ] = _DEFAULTS.no_repeat_ngram,
    beams: Annotated[int, _sampling("Above 1: beam search with N beams, without sampling.")] = _DEFAULTS.beams,
    seed: Annotated[int | None, _sampling("The same seed gives the same story.  [default: random]")] = None,
    count: Annotated[int, _many("Stories for each prompt, generated in batches.")] = 1,
    stop: Annotated[list[str] | None, _sampling("Text at which generation stops; repeatable.")] = None,
    file: Annotated[
        str | None,
        _many('File of prompts, one a line or .jsonl of {"prompt": ...}; - is standard input.', metavar="PATH"),
    ] = None,
    out: Annotated[Path | None, _many("Write the stories to this file; .jsonl as --json does.")] = None,
    again: Annotated[
        str | None, option("Repeat a kept story by its id (see storyteller stories), or latest.", metavar="ID")
    ] = None,
    as_json: Annotated[bool, option("Print a JSON object a line for each story.", "--json")] = False,
    no_keep: Annotated[bool, option("Do not add the story to the history (storyteller stories).", "--no-keep")] = False,
    compute_type: Annotated[
        ComputeType, option("Arithmetic of the model; int8 is faster and slightly less exact.")
    ] = "fp32",
    numbers: Annotated[ComputeType | None, option("", hidden=True)] = None,
    runs_dir: RunsDir = None,
    threads: Annotated[int, option("CPU threads; 0 chooses by machine and model.")] = 0,
) -> int:
    """Tell a story. Without a prompt at a terminal, open a session (type /help there).

    Example: storyteller tell "Once there was a little boy"
    """
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    given = {name: ctx.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}
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
    check_range("--count", count, 1, 10_000)
    check_range("--threads", threads, 0, 1024)
    history = HistoryWriter(not no_keep)
    if again is not None:
        _check_alone("--again", given, "prompt", "file", "count")
        return _tell_again(again, params, given, as_json, out, history)
    is_at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    is_session = prompt is None and file is None and is_at_terminal and not as_json and out is None
    if file is not None:
        _check_alone("--file", given, "prompt")
    elif is_session:
        _check_alone("a session", given, "count")
    else:
        prompt = _read_prompt(prompt)
    with LoadedModel(model, runs_dir, threads, compute_type, warn) as loaded:
        if is_session:
            return _run_session(loaded, params, history)
        if file is None and count == 1:
            with _open_output(out, as_json) as writer:
                return _tell_one(loaded, prompt or "", params, writer, history)
        from storyteller.cli.tell_batch import generate_and_write

        requests, total = _requests(prompt or "", file, count, out)
        with _open_output(out, as_json) as writer:
            return generate_and_write(loaded, requests, total, params, writer, history)


def _check_alone(option: str, given: dict[str, Any], *others: str) -> None:
    """Raises UsageError if one of `others` was given together with `option`."""
    for other in others:
        if other in given:
            shown = "a prompt" if other == "prompt" else f"--{other}"
            raise UsageError(f"{option} cannot be combined with {shown}", "give one of them")


def _read_prompt(prompt: str | None) -> str:
    """Returns the prompt, read from standard input if it is `-` or missing. Raises UsageError for a blank one."""
    if prompt is None and sys.stdin.isatty():
        raise UsageError("there is no prompt", _EXAMPLE)
    if prompt is None or prompt == "-":
        prompt = sys.stdin.buffer.read(4 * _PROMPT_LIMIT_CHARS + 1).decode("utf-8", "replace").rstrip("\n")
    if not prompt.strip():
        raise UsageError("the prompt is empty", _EXAMPLE)
    if len(prompt) > _PROMPT_LIMIT_CHARS:
        raise UsageError(f"the prompt has more than {_PROMPT_LIMIT_CHARS:,} characters", "give a shorter one")
    return prompt


def _requests(
    prompt: str, file: str | None, count: int, out: Path | None
) -> tuple[Iterator[PromptRequest], int | None]:
    """Returns the prompts of the file, or the one prompt, each `count` times, and their number if it is known."""
    from storyteller.evaluation.prompts import PromptRequest, read_prompts

    if file is None:
        return itertools.repeat(PromptRequest(prompt), count), count
    if out is not None and file != "-" and out.exists() and Path(file).exists() and out.samefile(file):
        raise UsageError("--out is the file of prompts", "write the stories to another file")
    prompts, total = read_prompts(file)
    return (each for each in prompts for _ in range(count)), None if total is None else total * count


@contextlib.contextmanager
def _open_output(out: Path | None, as_json: bool) -> Iterator[StoryWriter]:
    """Writes stories to standard output or over the file `out`. Raises DiskError if it cannot be written."""
    if out is None:
        yield StoryWriter(OutputStream(sys.stdout), as_json)
        return
    name = safe_line(str(out), 200)
    try:
        stream = out.open("w", encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise write_error(name, error, "check the path") from error
    with stream:
        yield StoryWriter(OutputStream(stream, name), as_json or out.suffix == ".jsonl")


def _tell_one(
    loaded: LoadedModel, prompt: str, params: SamplingParams, writer: StoryWriter, history: HistoryWriter
) -> int:
    """Streams one story; as JSON it is printed when it is complete."""
    params = with_seed(params)
    story, is_stopped = stream_story(loaded.engine, prompt, params, None if writer.as_json else writer.stream, prompt)
    if story.text or not is_stopped:
        finish_story(history.keep(loaded, prompt, params, story), loaded.engine.label, writer)
    return 130 if is_stopped else 0


def _tell_again(
    story_id: str,
    params: SamplingParams,
    given: dict[str, Any],
    as_json: bool,
    out: Path | None,
    history: HistoryWriter,
) -> int:
    """Repeats a kept story; options given now take the place of those it was generated with."""
    from storyteller.cli.tell_replay import regenerate, reopen_model
    from storyteller.inference import story_history

    record = story_history.find(story_id)
    changes = {name: value for name, value in dataclasses.asdict(params).items() if name in given}
    params = dataclasses.replace(record.sample, **changes)
    with reopen_model(record, given) as loaded, _open_output(out, as_json) as writer:
        _, is_stopped, message = regenerate(loaded, record, params, writer, history)
    if message:
        warn(message)
    return 130 if is_stopped else 0


def _run_session(loaded: LoadedModel, params: SamplingParams, history: HistoryWriter) -> int:
    """Reads and executes lines until Ctrl-D. Returns the exit status."""
    from storyteller.cli.line_editor import line_reader
    from storyteller.cli.tell_session import Session

    session = Session(loaded, params, OutputStream(sys.stdout), history)
    session.welcome()
    read = line_reader(session.model_names)
    while True:
        session.update_model()
        try:
            line = read(session.label)
        except EOFError:
            return 0
        except KeyboardInterrupt:
            continue
        if not session.answer(line):
            return 0
