"""Generates stories in a child process, so that the user interface never blocks and imports nothing heavy.

    client = GenerationClient(runs_root)
    ticket = client.generate("latest", "Once upon a time", SamplingParams(seed=7), on_event)
    ...  # on_event(ModelOpened(...)), on_event(TextPiece(...)), on_event(TextPiece(...)), ..., on_event(Ended(...))
    client.cancel(ticket)

`client` and `events` run in the parent; `python -m storyteller.inference.background.worker --runs-dir RUNS` is the
child, which imports the engine. They exchange JSON objects, one a line:

    {"generate": 1, "model": "latest", "prompt": "Once", ...}    {"event": "ModelOpened", "ticket": 1, "seed": 7, ...}
    {"cancel": 1}                                                {"event": "TextPiece", "ticket": 1, "text": " upon"...}
    {"prepare": "latest"}                                        {"event": "Ended", "ticket": 1, "tokens": 90, ...}
                                                                 {"event": "Released", "ticket": 1}

The child exits at the end of its standard input. While a run trains, generation leaves the processor to it.
"""

from __future__ import annotations

from storyteller.inference.background.client import GenerationClient
from storyteller.inference.background.events import Ended, Event, Failed, ModelOpened, Note, TextPiece

__all__ = ["Ended", "Event", "Failed", "GenerationClient", "ModelOpened", "Note", "TextPiece"]
