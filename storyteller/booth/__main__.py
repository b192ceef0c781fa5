"""`python -m storyteller.booth` is the child."""

import sys

from storyteller.booth.child import main

if __name__ == "__main__":
    main(sys.argv[1:])
