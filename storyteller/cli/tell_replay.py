"""A kept story told again: by the model that told it, with its settings and its seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storyteller.cli.loaded_model import LoadedModel
from storyteller.cli.story_output import StoryWriter
from storyteller.cli.tell_stream import HistoryWriter, StreamedStory, finish_story, stream_story
from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, HubError, ModelError, RunError

if TYPE_CHECKING:
    from storyteller.inference.story_history import StoryRecord


def reopen_model(told: StoryRecord, given: Mapping[str, Any]) -> LoadedModel:
    """The model that told a story, but for what was `given` anew: `model`, `runs_dir`, `compute_type`, `threads`.

    Raises its kind of error where it is gone, with what else can be done.
    """
    model = given.get("model")
    runs_dir = given.get("runs_dir") or (told.runs_dir if model is None else "") or None
    try:
        return LoadedModel(
            model or told.model, runs_dir, given.get("threads", 0), given.get("compute_type", told.compute_type)
        )
    except (RunError, CheckpointError, HubError, ModelError) as error:
        if model is not None:
            raise
        raise type(error)(
            f"the model that told {told.id} is gone: {error.problem}",
            f"tell it from another one: storyteller tell --again {told.id} --model NAME",
        ) from error


def regenerate(
    loaded: LoadedModel, told: StoryRecord, sample: SamplingParams, sheet: StoryWriter, keeper: HistoryWriter
) -> tuple[StreamedStory, str]:
    """Tell a kept story again and write it; where it was one of a batch and nothing is changed, with that batch.

    Returns what was told, and a line to show where it is not what was told then (empty: it is, or was not to be).
    """
    from storyteller.inference import story_history

    exact = (
        sample == told.sample
        and told.model == loaded.record_fields()["model"]
        and told.compute_type == loaded.compute_type
    )
    mates = story_history.batch_of(told) if exact and told.rows > 1 else None
    if mates is not None and told.rows > 1:
        story = loaded.engine.batch([mate.prompt for mate in mates], sample)[told.row]
        heard = StreamedStory(story.text, story.tokens, story.seconds, story.finished)
        if not sheet.as_json:
            sheet.put({"text": told.prompt + heard.text}, alone=True)
        place = {"batch": told.batch, "row": told.row, "rows": told.rows}
        again = keeper.keep(loaded, told.prompt, sample, heard, **place)
    else:
        prompt = loaded.engine.recent(told.prompt) if told.goes_on else told.prompt
        heard = stream_story(loaded.engine, prompt, sample, None if sheet.as_json else sheet.stream, echo=told.prompt)
        again = keeper.keep(loaded, told.prompt, sample, heard, goes_on=told.goes_on)
    finish_story(again, loaded.engine.label, heard, sheet)
    if not exact or heard.stopped or heard.text.startswith(told.text):
        return heard, ""
    if told.rows > 1 and mates is None:
        return heard, f"{told.id} was told beside others that are gone, and alone comes out differently"
    return heard, f"{told.id} was told differently then: the model or the machine is not the same"
