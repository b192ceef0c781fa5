"""The two tables of the Compare screen: the results of the runs, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from textual import events, getters
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from storyteller.charts import format_duration, format_number, swatch
from storyteller.text import safe_line
from storyteller.tracking.compare_runs import RunComparison, RunResult, format_setting
from storyteller.tui import safe_content
from storyteller.tui.base_app import BaseApp
from storyteller.tui.widgets.run_columns import STATES

_GAP = 2
_NARROWEST_NAME = 12
_WIDEST_NAME = 32
_NARROWEST_VALUE, _WIDEST_VALUE = 8, 24
_WIDEST_KEY = 28


@dataclass(frozen=True)
class _Figure:
    """A numeric column of the results table."""

    title: str
    of: Callable[[RunResult], float | None]
    format: Callable[[float], str]
    fold: int  # columns with a higher number are hidden first where the table is too wide; 0 is never hidden
    best: Callable[[Sequence[float]], float] | None = None
    """`min` or `max`: which value of the column is highlighted."""

    def text(self, result: RunResult) -> str:
        value = self.of(result)
        return "\u2014" if value is None else self.format(value)


_FIGURES = (
    _Figure("BITS/BYTE", lambda result: result.last_bpb, format_number, 0, min),
    _Figure("BEST", lambda result: result.best_bpb, format_number, 2, min),
    _Figure("LOSS", lambda result: result.train_loss, format_number, 3),
    _Figure("STEPS", lambda result: result.steps, lambda steps: f"{steps:,.0f}", 1),
    _Figure("TOKENS", lambda result: result.tokens, format_number, 6),
    _Figure("TRAINED", lambda result: result.seconds, format_duration, 4),
    _Figure("TOKENS/S", lambda result: result.tokens_per_second, lambda speed: f"{speed:,.0f}", 5, max),
    _Figure("SIZE", lambda result: result.parameters, format_number, 7),
)


def state_label(state: str) -> str:
    """The state as the runs table shows it. `deleted`, which is not a run's state, is shown as a failure."""
    glyph, word, _ = STATES.get(state, ("✗", safe_line(state), ""))
    return f"{glyph} {word}" if state else ""


class _RunsTable(Widget):
    """Base of both tables: holds the compared runs, the colour of each, and the chosen run."""

    DEFAULT_CSS = "_RunsTable { height: 2; }"
    ALLOW_SELECT = False
    app = getters.app(BaseApp)

    comparison: reactive[RunComparison] = reactive(RunComparison((), (), ()), init=False)
    line_colors: reactive[Mapping[str, int]] = reactive(dict[str, int])
    chosen: reactive[str | None] = reactive[str | None](None)

    def on_mount(self) -> None:
        self.watch(self.app, "theme", self._theme_changed, init=False)

    def _theme_changed(self) -> None:
        self.refresh()

    def watch_comparison(self) -> None:
        self.styles.height = 1 + max(1, self._rows())

    def _rows(self) -> int:
        """The number of rows under the header."""
        raise NotImplementedError

    def _swatch(self, name: str) -> Content:
        """The run's line colour; without colours, the dash pattern of its line."""
        number, palette = self.line_colors.get(name, 0), self.app.palette_colors
        patterns = self.app.no_color and len(self.line_colors) > 1
        return safe_content.line(swatch(number, self.app.settings.cells, patterns), palette[number % len(palette)])


class ResultsTable(_RunsTable):
    """One row per run: colour, name, state and figures. The best value of a column is highlighted."""

    @dataclass
    class RunClicked(Message):
        """A run's row was clicked once, or twice to open the run."""

        name: str
        twice: bool

    def _rows(self) -> int:
        return len(self.comparison.results)

    def render(self) -> Content:
        width = self.content_size.width
        results = self.comparison.results
        figures, name_width, state_width = self._fit(width)
        cells = {each.title: [each.text(result) for result in results] for each in figures}
        widths = {title: max(len(title), *map(len, column), 0) for title, column in cells.items()}
        gap = " " * _GAP
        # The swatch, the pointer and the name share the first column; its title stands over the name.
        head = " " * 3 + "RUN".ljust(name_width) + (gap + "STATE".ljust(state_width) if state_width else "")
        head += "".join(gap + each.title.rjust(widths[each.title]) for each in figures)
        rows = [safe_content.line(head[:width], "$text-muted")]
        for number, result in enumerate(results):
            chosen = result.name == self.chosen
            pointer = (">" if self.app.settings.cells == "ascii" else "\u203a") if chosen else " "
            parts: list[Content] = [self._swatch(result.name), safe_content.line(pointer, "bold")]
            name = safe_line(result.name, name_width).ljust(name_width)
            parts.append(safe_content.line(name, "bold" if chosen else ""))
            if state_width:
                bad = result.state in ("failed", "died", "deleted")
                state = state_label(result.state)[:state_width].ljust(state_width)
                parts += [Content(gap), safe_content.line(state, "$text-error" if bad else "$text-muted")]
            for each in figures:
                text = cells[each.title][number].rjust(widths[each.title])
                style = "bold $text-success" if self._is_best(each, result) else ""
                parts += [Content(gap), safe_content.line(text, style)]
            row = Content("").join(parts)[:width].pad_right(max(0, width - sum(part.cell_length for part in parts)))
            rows.append(row.stylize_before("on $foreground 12%") if chosen else row)
        if not results:
            rows.append(safe_content.line("   no runs: press a to choose some", "$text-muted"))
        return Content("\n").join(rows)

    def _is_best(self, each: _Figure, result: RunResult) -> bool:
        values = [value for other in self.comparison.results if (value := each.of(other)) is not None]
        return each.best is not None and len(set(values)) > 1 and each.of(result) == each.best(values)

    def _fit(self, width: int) -> tuple[list[_Figure], int, int]:
        """Fit the table into `width` cells: the figures that are shown, and the widths of name and state.

        Figures are hidden first, then the state (a width of 0), and the name is shortened last.
        """
        results = self.comparison.results
        longest = max((len(result.name) for result in results), default=3)
        state_width = max((len(state_label(result.state)) for result in results), default=0)
        state_width = max(state_width, len("STATE")) if state_width else 0
        figures = list(_FIGURES)

        def taken(state: int) -> int:
            columns = [max(len(each.title), *(len(each.text(result)) for result in results), 0) for each in figures]
            return 3 + (_GAP + state if state else 0) + sum(_GAP + column for column in columns)

        while figures and taken(state_width) + min(longest, _WIDEST_NAME) > width:
            hidden_next = max(figures, key=lambda each: each.fold)
            if not hidden_next.fold:
                break
            figures.remove(hidden_next)
        if taken(state_width) + _NARROWEST_NAME > width:
            state_width = 0
        if taken(state_width) + min(longest, _NARROWEST_NAME) > width:
            figures = []
        return figures, max(1, min(longest, width - taken(state_width))), state_width

    def on_click(self, event: events.Click) -> None:
        number = event.get_content_offset_capture(self).y - 1
        if 0 <= number < len(self.comparison.results):
            self.post_message(self.RunClicked(self.comparison.results[number].name, event.chain >= 2))


class SettingsTable(_RunsTable):
    """One row per setting that differs between the runs, one column per run. The chosen run is always visible."""

    def _rows(self) -> int:
        return len(self.comparison.differences)

    def render(self) -> Content:
        width = self.content_size.width
        comparison = self.comparison
        if not comparison.differences:
            why = "all settings are the same" if len(comparison.names) > 1 else "add another run to compare settings"
            return safe_content.plain(f"SETTING\n{why}", "$text-muted")
        key_width = min(_WIDEST_KEY, max(7, *(len(key) for key, _ in comparison.differences)), max(7, width // 2))
        columns = self._columns(width - key_width)
        gap = " " * _GAP
        head = [safe_content.line("SETTING".ljust(key_width), "$text-muted")]
        for number, room in columns:
            name = comparison.names[number]
            style = "bold" if name == self.chosen else "$text-muted"
            title = f" {safe_line(name, room - 3)}".ljust(room - 2)
            head += [Content(gap), self._swatch(name), safe_content.line(title, style)]
        rows = [Content("").join(head)]
        for key, values in comparison.differences:
            parts = [safe_content.line(safe_line(key, key_width).ljust(key_width), "$text-muted")]
            for number, room in columns:
                text = safe_line(format_setting(values[number]), room).ljust(room)
                style = "bold" if comparison.names[number] == self.chosen else ""
                parts += [Content(gap), safe_content.line(text, style)]
            rows.append(Content("").join(parts))
        return Content("\n").join(row[:width] for row in rows)

    def _columns(self, width: int) -> list[tuple[int, int]]:
        """The runs whose columns fit into `width` cells: the number of each, and the width of its column.

        If the chosen run would not fit, the first columns are left out.
        """
        comparison = self.comparison
        wanted = []
        for number, name in enumerate(comparison.names):
            longest = max(
                (len(safe_line(format_setting(values[number]))) for _, values in comparison.differences), default=0
            )
            wanted.append(min(_WIDEST_VALUE, max(_NARROWEST_VALUE, longest, 3 + min(len(name), 16))))
        chosen = comparison.names.index(self.chosen) if self.chosen in comparison.names else 0
        for first in range(len(wanted)):
            columns, left = [], width
            for number in range(first, len(wanted)):
                room = min(wanted[number], left - _GAP)
                if room < _NARROWEST_VALUE:
                    break
                columns.append((number, room))
                left -= room + _GAP
            if any(number == chosen for number, _ in columns):
                return columns
        return []
