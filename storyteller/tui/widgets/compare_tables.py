"""The tables of the Compare screen: what came of each run, and where their settings differ; a colour a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from textual import events, getters
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from storyteller.charts import duration, figure, swatch
from storyteller.text import safe_line
from storyteller.tracking.compare_runs import Result, RunComparison, shown
from storyteller.tui import safe_content
from storyteller.tui.app import StorytellerApp
from storyteller.tui.widgets.run_columns import STATES

_GAP = 2
_NARROWEST_NAME = 12
_WIDEST_NAME = 32
_NARROWEST_VALUE, _WIDEST_VALUE = 8, 24
_WIDEST_KEY = 28


@dataclass(frozen=True)
class _Figure:
    """A column of figures."""

    title: str
    of: Callable[[Result], float | None]
    write: Callable[[float], str]
    fold: int
    """The higher, the earlier it gives way."""
    best: Callable[[Sequence[float]], float] | None = None
    """Which of the values is lit."""


_FIGURES = (
    _Figure("BITS/BYTE", lambda result: result.last_bpb, figure, 0, min),
    _Figure("BEST", lambda result: result.best_bpb, figure, 2, min),
    _Figure("LOSS", lambda result: result.train_loss, figure, 3),
    _Figure("STEPS", lambda result: result.steps, lambda steps: f"{steps:,.0f}", 1),
    _Figure("TOKENS", lambda result: result.tokens, figure, 6),
    _Figure("TRAINED", lambda result: result.seconds, duration, 4),
    _Figure("TOKENS/S", lambda result: result.tokens_per_second, lambda speed: f"{speed:,.0f}", 5, max),
    _Figure("SIZE", lambda result: result.parameters, figure, 7),
)


def state_words(state: str) -> str:
    """A state as the table of runs says it; what is no state (`deleted`) as it stands."""
    for known, (glyph, word, _) in STATES.items():
        if state == known:
            return f"{glyph} {word}"
    return f"✗ {safe_line(state)}" if state else ""


class _Coloured(Widget):
    """What both tables know: the runs, in their colours, and which one is chosen."""

    app = getters.app(StorytellerApp)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._comparison = RunComparison((), (), ())
        self._colors: Mapping[str, int] = {}
        self._chosen: str | None = None

    def on_mount(self) -> None:
        self.watch(self.app, "theme", self._theme_changed, init=False)

    def _theme_changed(self) -> None:
        self.refresh()

    def show(self, comparison: RunComparison, colors: Mapping[str, int]) -> None:
        if comparison != self._comparison or colors != self._colors:
            self._comparison, self._colors = comparison, dict(colors)
            self.styles.height = 1 + max(1, self._rows())
            self.refresh()

    def _rows(self) -> int:
        """Below the head."""
        raise NotImplementedError

    def choose(self, name: str | None) -> None:
        if name != self._chosen:
            self._chosen = name
            self.refresh()

    def _swatch(self, name: str) -> Content:
        number = self._colors.get(name, 0)
        several = self.app.no_color and len(self._colors) > 1
        mark = swatch(number, self.app.settings.cells, several)
        return safe_content.line(mark, self.app.palette_colors[number % len(self.app.palette_colors)])


class CompareTables(_Coloured):
    """A row a run: its colour, name, state and figures; the best of a column is lit. A click chooses a run."""

    DEFAULT_CSS = """
    CompareTables { height: 2; }
    """
    ALLOW_SELECT = False

    class Picked(Message):
        """A run's row was clicked; `twice` where it was to be opened."""

        def __init__(self, name: str, twice: bool) -> None:
            super().__init__()
            self.name = name
            self.twice = twice

    def _rows(self) -> int:
        return len(self._comparison.results)

    def render(self) -> Content:
        width = self.content_size.width
        results = self._comparison.results
        figures, name_width, state_width = self._fitted(width)
        cells = {each.title: [_written(each, result) for result in results] for each in figures}
        widths = {title: max(len(title), *map(len, column), 0) for title, column in cells.items()}
        gap = " " * _GAP
        # the swatch and the name share a column; its title stands over the name
        head = " " * 3 + "RUN".ljust(name_width) + (gap + "STATE".ljust(state_width) if state_width else "")
        head += "".join(gap + each.title.rjust(widths[each.title]) for each in figures)
        rows = [safe_content.line(head[:width], "$text-muted")]
        for number, result in enumerate(results):
            chosen = result.name == self._chosen
            point = (">" if self.app.settings.cells == "ascii" else "\u203a") if chosen else " "
            parts: list[Content] = [self._swatch(result.name), safe_content.line(point, "bold")]
            name = safe_line(result.name, name_width).ljust(name_width)
            parts.append(safe_content.line(name, "bold" if chosen else ""))
            if state_width:
                bad = result.state in ("failed", "died", "deleted")
                state = state_words(result.state)[:state_width].ljust(state_width)
                parts += [Content(gap), safe_content.line(state, "$text-error" if bad else "$text-muted")]
            for each in figures:
                text = cells[each.title][number].rjust(widths[each.title])
                parts += [
                    Content(gap),
                    safe_content.line(text, "bold $text-success" if self._leads(each, result) else ""),
                ]
            row = Content("").join(parts)[:width].pad_right(max(0, width - sum(part.cell_length for part in parts)))
            rows.append(row.stylize_before("on $foreground 12%") if chosen else row)
        if not results:
            rows.append(safe_content.line("   no runs: a chooses some", "$text-muted"))
        return Content("\n").join(rows)

    def _leads(self, each: _Figure, result: Result) -> bool:
        values = [value for other in self._comparison.results if (value := each.of(other)) is not None]
        return each.best is not None and len(set(values)) > 1 and each.of(result) == each.best(values)

    def _fitted(self, width: int) -> tuple[list[_Figure], int, int]:
        """The figures that `width` cells hold, and how wide the name and the state are."""
        results = self._comparison.results
        longest = max((len(result.name) for result in results), default=3)
        state_width = max((len(state_words(result.state)) for result in results), default=0)
        state_width = max(state_width, len("STATE")) if state_width else 0
        figures = list(_FIGURES)

        def taken(state: int) -> int:
            columns = [max(len(each.title), *(len(_written(each, one)) for one in results), 0) for each in figures]
            return 3 + (_GAP + state if state else 0) + sum(_GAP + column for column in columns)

        while figures and taken(state_width) + min(longest, _WIDEST_NAME) > width:
            foldable = max(figures, key=lambda each: each.fold)
            if not foldable.fold:
                break
            figures.remove(foldable)
        if taken(state_width) + _NARROWEST_NAME > width:
            state_width = 0
        if taken(state_width) + min(longest, _NARROWEST_NAME) > width:
            figures = []
        room = width - taken(state_width)
        return figures, max(1, min(longest, room)), state_width

    def on_click(self, event: events.Click) -> None:
        number = event.get_content_offset_capture(self).y - 1
        if 0 <= number < len(self._comparison.results):
            self.post_message(self.Picked(self._comparison.results[number].name, event.chain >= 2))


def _written(each: _Figure, result: Result) -> str:
    value = each.of(result)
    return "\u2014" if value is None else each.write(value)


class Differences(_Coloured):
    """A row a setting that is not the same in all runs; a column a run, the chosen one always in sight."""

    DEFAULT_CSS = """
    Differences { height: 2; }
    """
    ALLOW_SELECT = False

    def _rows(self) -> int:
        return len(self._comparison.differences)

    def render(self) -> Content:
        width = self.content_size.width
        comparison = self._comparison
        if not comparison.differences:
            said = "settings are the same in all" if len(comparison.names) > 1 else "another run is needed to compare"
            return Content("\n").join(
                [safe_content.line("SETTING", "$text-muted"), safe_content.line(said, "$text-muted")]
            )
        key_width = min(_WIDEST_KEY, max(7, *(len(key) for key, _ in comparison.differences)), max(7, width // 2))
        columns = self._columns(width - key_width)
        gap = " " * _GAP
        head = [safe_content.line("SETTING".ljust(key_width), "$text-muted")]
        for number, room in columns:
            name = comparison.names[number]
            look = "bold" if name == self._chosen else "$text-muted"
            head += [
                Content(gap),
                self._swatch(name),
                safe_content.line(f" {safe_line(name, room - 3)}".ljust(room - 2), look),
            ]
        rows = [Content("").join(head)]
        for key, values in comparison.differences:
            parts = [safe_content.line(safe_line(key, key_width).ljust(key_width), "$text-muted")]
            for number, room in columns:
                text = safe_line(shown(values[number]), room).ljust(room)
                parts += [
                    Content(gap),
                    safe_content.line(text, "bold" if comparison.names[number] == self._chosen else ""),
                ]
            rows.append(Content("").join(parts))
        return Content("\n").join(row[:width] for row in rows)

    def _columns(self, width: int) -> list[tuple[int, int]]:
        """The runs whose columns fit, by number, and how wide each is; begun further on where the chosen one is."""
        comparison = self._comparison
        wishes = []
        for number, name in enumerate(comparison.names):
            longest = max((len(safe_line(shown(values[number]))) for _, values in comparison.differences), default=0)
            wishes.append(min(_WIDEST_VALUE, max(_NARROWEST_VALUE, longest, 3 + min(len(name), 16))))
        chosen = comparison.names.index(self._chosen) if self._chosen in comparison.names else 0
        for first in range(len(wishes)):
            columns, left = [], width
            for number in range(first, len(wishes)):
                room = min(wishes[number], left - _GAP)
                if room < _NARROWEST_VALUE:
                    break
                columns.append((number, room))
                left -= room + _GAP
            if any(number == chosen for number, _ in columns):
                return columns
        return []
