"""`python -m storyteller.data.bundled SEED COUNT` prints the first tales, the last of them first: a JSON string a line."""

from __future__ import annotations

import json
import signal
import sys

from storyteller.data.bundled import tale


def main(seed: int, count: int) -> None:
    """Until all are told, or nobody listens any more."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for index in reversed(range(count)):
        print(json.dumps(tale(index, seed)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
