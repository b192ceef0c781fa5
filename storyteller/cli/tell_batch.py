"""Many stories at once: prompts from a file, told in batches, in order, with a line of progress at a terminal."""

from __future__ import annotations

import dataclasses
import itertools
import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from storyteller.cli.progress_line import ProgressLine, leave, run_interruptibly
from storyteller.cli.story_output import StoryWriter, warn
from storyteller.cli.tell_stream import HistoryWriter, StreamedStory, story_json
from storyteller.config.configs import SamplingParams
from storyteller.errors import UsageError

if TYPE_CHECKING:
    from storyteller.cli.loaded_model import LoadedModel
    from storyteller.evaluation.prompts import PromptRequest
    from storyteller.inference.engine import GeneratedStory

ROWS = 64
"""Stories told side by side."""


def generate_and_write(
    loaded: LoadedModel,
    asked: Iterable[PromptRequest],
    total: int | None,
    sample: SamplingParams,
    sheet: StoryWriter,
    keeper: HistoryWriter,
) -> int:
    """Tell a story for each prompt, `ROWS` at a time, and write them in order; the exit status.

    Each batch has the next seed. A prompt that the model cannot take is noted and left out, and the status is then 1.
    After Ctrl-C, what is done stays, and the process ends with 130.
    """
    first = sample.seed if sample.seed is not None else secrets.randbits(32)
    waiting, done, failed = iter(asked), 0, 0
    with ProgressLine(total) as progress:
        for number in itertools.count():
            some = list(itertools.islice(waiting, ROWS))
            if not some:
                break
            seeded = dataclasses.replace(sample, seed=(first + number) % 2**32)
            try:
                progress.show(done)
                fit, stories = run_interruptibly(lambda some=some, seeded=seeded: _batch(loaded, some, seeded))  # type: ignore[misc]
            except KeyboardInterrupt:
                progress.close()
                warn(f"stopped after {done:,} stories" + (f" of {total:,}" if total is not None else ""))
                loaded.close()
                leave()
            progress.clear()
            _write(loaded, fit, stories, seeded, sheet, keeper)
            done += len(some)
            failed += len(some) - len(fit)
            progress.tokens += sum(story.tokens for story in stories)
    if failed:
        warn(f"{failed:,} of {done:,} prompts could not be told from")
    return 1 if failed else 0


def _batch(
    loaded: LoadedModel, asked: Sequence[PromptRequest], sample: SamplingParams
) -> tuple[Sequence[PromptRequest], list[GeneratedStory]]:
    """The prompts that the model can take, and their stories."""
    try:
        return asked, loaded.engine.batch([each.prompt for each in asked], sample)
    except UsageError:
        if not any(each.line for each in asked):
            raise
    fit = []
    for each in asked:
        try:
            loaded.engine.stream(each.prompt, sample).close()  # checks the prompt, and tells nothing yet
            fit.append(each)
        except UsageError as error:
            warn(f"line {each.line:,}: {error.problem}")
    return fit, loaded.engine.batch([each.prompt for each in fit], sample) if fit else []


def _write(
    loaded: LoadedModel,
    asked: Sequence[PromptRequest],
    stories: Sequence[GeneratedStory],
    sample: SamplingParams,
    sheet: StoryWriter,
    keeper: HistoryWriter,
) -> None:
    batch = secrets.token_hex(6)
    for row, (each, story) in enumerate(zip(asked, stories, strict=True)):
        heard = StreamedStory(story.text, story.tokens, story.seconds, story.finished)
        place: dict[str, Any] = {"batch": batch, "row": row, "rows": len(stories)} if len(stories) > 1 else {}
        told = keeper.keep(loaded, each.prompt, sample, heard, **place)
        sheet.put(story_json(told, loaded.engine.label, **({"line": each.line} if each.line else {})))
