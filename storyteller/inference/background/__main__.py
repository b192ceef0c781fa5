"""`python -m storyteller.inference.background` is the child."""

import sys

from storyteller.inference.background.worker import main

if __name__ == "__main__":
    main(sys.argv[1:])
