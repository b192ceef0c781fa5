"""A run's metrics as curves, for logs of any length: drawn by charts, printed by `show`, followed by the app."""

from storyteller.tracking.curves.columns import AXES, X
from storyteller.tracking.curves.metric_curves import Curves, Line

__all__ = ["AXES", "Curves", "Line", "X"]
