"""One story from an open model: told aloud as it is made, stopped by Ctrl-C, described as JSON, and kept."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storyteller.cli.story_output import Page, Paper, Sheet, note
from storyteller.config.configs import SamplingParams
from storyteller.errors import StorytellerError
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.cli.loaded_model import Loaded
    from storyteller.inference.engine import Engine, GeneratedStory
    from storyteller.inference.story_history import StoryRecord


@dataclass(frozen=True)
class StreamedStory:
    """What was told, also where it was stopped."""

    text: str
    tokens: int
    seconds: float
    finished: bool
    stopped: bool = False
    """By Ctrl-C."""

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / max(self.seconds, 1e-9)


def tell_aloud(
    engine: Engine, prompt: str, sample: SamplingParams, paper: Paper | None, echo: str = ""
) -> StreamedStory:
    """Stream a story onto `paper` (None: nowhere), `echo` before it; its line is always ended.

    Ctrl-C stops it, and what was told until then is what there is. Raises UsageError where the prompt does not fit,
    ModelError where telling fails.
    """
    began = time.perf_counter()
    pieces = engine.stream(prompt, sample)
    page = Page(paper) if paper is not None else None
    told: list[str] = []
    try:
        if page is not None and echo:
            page.write(echo)
        while True:
            piece = next(pieces)
            told.append(piece)
            if page is not None:
                # Where a story goes on on a line of its own, the space before its first word has nothing to part.
                page.write(piece if echo or len(told) > 1 else piece.lstrip(" "))
    except StopIteration as end:
        story: GeneratedStory = end.value
        return StreamedStory(story.text, story.tokens, story.seconds, story.finished)
    except KeyboardInterrupt:
        text = "".join(told)
        return StreamedStory(text, engine.count(text), time.perf_counter() - began, finished=False, stopped=True)
    finally:
        pieces.close()
        if page is not None:
            page.end()


class HistoryWriter:
    """Puts stories on the shelf; where it cannot, it says so once, and nothing else is the worse for it."""

    def __init__(self, wanted: bool) -> None:
        """`wanted`: whether anything is to be kept at all."""
        self._wanted = wanted
        self._failed = False

    def keep(
        self, loaded: Loaded, prompt: str, sample: SamplingParams, heard: StreamedStory, **more: Any
    ) -> StoryRecord:
        """The story with all that it takes to tell it again; its id is empty unless it was kept.

        `sample.seed` is set; `more`: `StoryRecord`'s other fields.
        """
        import dataclasses

        from storyteller.inference import story_history

        told = story_history.StoryRecord(
            prompt=prompt,
            text=heard.text,
            sample=sample,
            tokens=heard.tokens,
            seconds=round(heard.seconds, 4),
            finished=heard.finished,
            **loaded.naming(),
            **more,
        )
        if self._wanted:
            try:
                story_history.keep(told)
                return told
            except StorytellerError as error:
                if not self._failed:
                    note(str(error))
                self._failed = True
        return dataclasses.replace(told, id="")


def record(told: StoryRecord, label: str, **more: Any) -> dict[str, Any]:
    """A story as `--json` prints it."""
    plain = {
        "text": told.whole,
        "prompt": told.prompt,
        "story": told.text,
        "tokens": told.tokens,
        "seconds": told.seconds,
        "seed": told.seed,
        "model": label,
        "finished": told.finished,
    }
    if told.rows > 1:  # one seed told the whole batch
        plain |= {"row": told.row, "rows": told.rows}
    return {**plain, **more, **({"id": told.id} if told.id else {})}


def sign(told: StoryRecord, label: str, heard: StreamedStory, sheet: Sheet) -> None:
    """What follows a story that was streamed: its record as JSON, or a line about it for whoever watches."""
    if sheet.as_json:
        sheet.put(record(told, label))
    elif sheet.paper.is_terminal and sys.stderr.isatty():
        kept = f", kept as {told.id}" if told.id else ""
        line = f"({label}, seed {told.seed}, {told.tokens:,} tokens, {heard.speed:,.0f} tokens/s{kept})"
        print(safe_line(line), file=sys.stderr, flush=True)
