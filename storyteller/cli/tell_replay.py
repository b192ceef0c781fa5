"""Generates a kept story again, with the same model, sampling parameters and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storyteller.cli.story_output import HistoryWriter, StoryWriter, finish_story, stream_story
from storyteller.cli.text_tables import warn
from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, HubError, ModelError, RunError
from storyteller.inference.loaded_model import LoadedModel

if TYPE_CHECKING:
    from storyteller.inference.generate import GeneratedStory
    from storyteller.inference.story_history import StoryRecord


def reopen_model(record: StoryRecord, given: Mapping[str, Any]) -> LoadedModel:
    """Opens the model of a story, with `given` options in place of the recorded ones.

    `given` may have `model`, `runs_dir`, `compute_type` and `threads`. If the story's own model cannot be opened, the
    error suggests another one.
    """
    model = given.get("model")
    runs_dir = given.get("runs_dir") or (record.runs_dir if model is None else "") or None
    compute_type = given.get("compute_type", record.compute_type)
    try:
        return LoadedModel(model or record.model, runs_dir, given.get("threads", 0), compute_type, warn)
    except (RunError, CheckpointError, HubError, ModelError) as error:
        if model is not None:
            raise
        raise type(error)(
            f"the model of {record.id} cannot be opened: {error.problem}",
            f"take another one: storyteller tell --again {record.id} --model NAME",
        ) from error


def regenerate(
    loaded: LoadedModel, record: StoryRecord, params: SamplingParams, writer: StoryWriter, history: HistoryWriter
) -> tuple[GeneratedStory, bool, str]:
    """Generates a kept story again and writes it. A story of a batch is generated with its batch if nothing changed.

    Returns the story, whether Ctrl-C stopped it, and a message if it should be the same as the kept one but is not.
    """
    from storyteller.inference import story_history

    is_same = (
        params == record.sample
        and record.model == loaded.record_fields()["model"]
        and record.compute_type == loaded.compute_type
    )
    batch = story_history.batch_of(record) if is_same and record.rows > 1 else None
    if batch is not None:
        story, is_stopped = loaded.engine.batch([other.prompt for other in batch], params)[record.row], False
        if not writer.as_json:
            writer.put({"text": record.prompt + story.text}, alone=True)
        position = {"batch": record.batch, "row": record.row, "rows": record.rows}
        again = history.keep(loaded, record.prompt, params, story, **position)
    else:
        prompt = loaded.engine.recent(record.prompt) if record.goes_on else record.prompt
        stream = None if writer.as_json else writer.stream
        story, is_stopped = stream_story(loaded.engine, prompt, params, stream, echo=record.prompt)
        again = history.keep(loaded, record.prompt, params, story, goes_on=record.goes_on)
    finish_story(again, loaded.engine.label, writer)
    message = ""
    if is_same and not is_stopped and not story.text.startswith(record.text):
        message = f"{record.id} was different when it was kept: the model or the machine has changed"
        if record.rows > 1 and batch is None:
            message = f"{record.id} was generated in a batch that is not complete any more, and alone it is different"
    return story, is_stopped, message
