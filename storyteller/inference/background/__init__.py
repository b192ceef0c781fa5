"""Stories told in a child process, so that whoever shows them never waits and imports nothing heavy.

    booth = Booth(runs_root)
    ticket = booth.tell("latest", "Once upon a time", Sample(seed=7), hear)
    ...  # hear(Opened(...)), hear(Piece(...)), hear(Piece(...)), ..., hear(Ended(...))
    booth.cancel(ticket)

`GenerationClient` is the parent's side (`parent`, `process`, `events`); `python -m storyteller.inference.background --runs-dir RUNS` is the child
(`child`, `outbox`, `models`, `manners`), which imports the engine. They speak in JSON, an object a line:

    {"tell": 1, "model": "latest", "prompt": "Once", "sample": {...}}    {"opened": 1, "label": "first@90", "seed": 7}
    {"cancel": 1}                                                        {"piece": 1, "text": " upon a", "tokens": 3}
    {"prepare": "latest"}                                                {"note": 1, ...} {"failed": 1, ...} {"free": 1}
                                                                         {"ended": 1, "tokens": 90, "seconds": 0.1, ...}

The child ends when its standard input does. While a run trains, telling leaves the processor to it.
"""

from __future__ import annotations

from storyteller.inference.background.client import GenerationClient
from storyteller.inference.background.events import Ended, Event, Failed, ModelOpened, Note, TextPiece

__all__ = ["Ended", "Event", "Failed", "GenerationClient", "ModelOpened", "Note", "TextPiece"]
