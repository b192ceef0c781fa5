"""A run's metrics as curves, at any length of its log: what charts draw, `show` prints and screens follow."""

from storyteller.curves.reading import Curves, Line
from storyteller.curves.rows import AXES, X

__all__ = ["AXES", "Curves", "Line", "X"]
