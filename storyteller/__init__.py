"""A terminal lab for tiny story models: train, watch, tell, compare."""

__version__ = "0.1.0"
