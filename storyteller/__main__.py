"""`python -m storyteller` is the `storyteller` command."""

from storyteller.cli import main

if __name__ == "__main__":
    main()
