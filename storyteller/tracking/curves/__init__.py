"""A run's metrics as curves, at any length of its log: what charts draw, `show` prints and screens follow."""

from storyteller.tracking.curves.columns import AXES, X
from storyteller.tracking.curves.metric_curves import Curves, Line

__all__ = ["AXES", "Curves", "Line", "X"]
