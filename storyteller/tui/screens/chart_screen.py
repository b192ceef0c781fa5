"""The base class of the run and compare screens: the keys that act on their charts."""

from __future__ import annotations

from typing import get_args

from textual.binding import Binding

from storyteller.tracking.curves import X
from storyteller.tui.base_app import ReaderScreen
from storyteller.tui.readers.chart_reader import ChartReader
from storyteller.tui.widgets.line_chart import ChartView
from storyteller.tui.widgets.metric_charts import SMOOTHINGS

STYLE_KEYS = (Binding("x", "axis", "Axis"), Binding("l", "log_y", "Log y"), Binding("m", "smoothing", "Smooth"))
RANGE_KEYS = (
    Binding("left", "cursor(-1)", "Cursor left", show=False),
    Binding("right", "cursor(1)", "Cursor right", show=False),
    Binding("shift+left", "cursor(-10)", "Cursor far left", show=False),
    Binding("shift+right", "cursor(10)", "Cursor far right", show=False),
    Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False, key_display="+"),
    Binding("minus", "zoom(-1)", "Zoom out", show=False, key_display="-"),
    Binding("comma", "pan(-1)", "Pan left", show=False, key_display=","),
    Binding("full_stop", "pan(1)", "Pan right", show=False, key_display="."),
    Binding("0", "fit", "See all", show=False),
)


class ChartScreen(ReaderScreen):
    """A screen with charts. Subclasses create `_reader`, and bind `STYLE_KEYS` and `RANGE_KEYS`."""

    AUTO_FOCUS = ""
    _reader: ChartReader

    @property
    def chart(self) -> ChartView:
        """The chart that the keys act on."""
        raise NotImplementedError

    def _apply_settings(self) -> None:
        """Draw the charts as the settings say, and request their lines."""
        raise NotImplementedError

    def on_screen_resume(self) -> None:
        self._apply_settings()  # they may have changed meanwhile

    def _settings_changed(self) -> None:
        self.app.save_settings()
        self._apply_settings()

    def action_axis(self) -> None:
        axes: tuple[X, ...] = get_args(X)
        self.app.settings.x_axis = axes[(axes.index(self.app.settings.x_axis) + 1) % len(axes)]
        self._settings_changed()

    def action_log_y(self) -> None:
        self.app.settings.log_y = not self.app.settings.log_y
        self._settings_changed()

    def action_smoothing(self) -> None:
        settings = self.app.settings
        larger = (span for span in SMOOTHINGS if span > settings.smoothing + 1e-9)
        settings.smoothing = next(larger, SMOOTHINGS[0])
        self._settings_changed()
        span = settings.smoothing
        self.app.say(f"smoothed over {span:.0%} of the range shown" if span else "not smoothed")

    def action_zoom(self, direction: int) -> None:
        self.chart.zoom_step(direction)

    def action_pan(self, direction: int) -> None:
        self.chart.pan_step(direction)

    def action_cursor(self, columns: int) -> None:
        self.chart.move_cursor(columns)

    def action_fit(self) -> None:
        self.chart.show_all()
