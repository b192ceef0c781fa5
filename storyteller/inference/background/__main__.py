"""Runs the child process: `python -m storyteller.inference.background`."""

import sys

from storyteller.inference.background.worker import main

if __name__ == "__main__":
    main(sys.argv[1:])
