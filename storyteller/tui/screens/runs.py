"""The runs screen, on which the app opens: a live table of all runs."""

from __future__ import annotations

import datetime
import gc
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from storyteller.tui.base_app import ReaderScreen
from storyteller.tui.readers.runs_reader import RunsReader, RunsUpdated
from storyteller.tui.safe_content import line, plain, show
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.run_columns import SORTABLE, STATE_COLORS, STATES, RunRow, ordered
from storyteller.tui.widgets.run_table import RunTable
from storyteller.tui.widgets.view_bar import ViewBar

if TYPE_CHECKING:
    from storyteller.tracking.run_index import RunSummary

_NEED_RUNS = {
    "stop", "resume", "tell", "mark", "compare", "filter", "sort", "reverse", "rename", "delete",
}  # fmt: skip
_STORY_FROM_ROWS = 20  # least height at which the newest story is shown below the table


class RunsScreen(ReaderScreen):
    """The table of runs, and below it details of the run at the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "app.new_run", "New"),
        Binding("s", "stop", "Stop", tooltip="Finish the step, save and stop; press again to kill"),
        Binding("r", "resume", "Resume", tooltip="Resume the run; a finished one with more minutes"),
        Binding("t", "tell", "Tell", tooltip="Generate a story with this run's newest checkpoint"),
        Binding("space", "mark", "Mark", tooltip="Mark for compare, stop and delete"),
        Binding("c", "compare", "Compare", tooltip="Compare the marked runs"),
        Binding("slash", "filter", "Filter", key_display="/", tooltip="Show only runs that contain these words"),
        Binding("o", "sort(1)", "Sort", tooltip="Sort by the next column, or click its header"),
        Binding("O", "reverse", "Reverse the order", show=False),
        Binding("e", "rename", "Rename"),
        Binding("d", "delete", "Delete", tooltip="Delete this run or the marked ones; asks first"),
        Binding("escape", "clear", "Clear filter and marks", show=False),
    ]
    AUTO_FOCUS = "RunTable"
    COMMAND = "storyteller ps"

    def __init__(self) -> None:
        super().__init__()
        self._seen: RunsUpdated | None = None
        self._filter = ""

    def compose(self) -> ComposeResult:
        self._reader: RunsReader = RunsReader(self, self.app.runs_root)
        yield ViewBar("runs")
        with Horizontal(id="filter-row"):
            yield Static("/", id="filter-slash", markup=False)
            yield Input(placeholder="words of a name, state or preset", id="filter", compact=True)
            yield Static("", id="filter-count", markup=False)
        yield RunTable(id="runs")
        yield Static("", id="empty", markup=False)
        yield Static("", id="chosen", markup=False)
        yield KeyHints()

    def on_mount(self) -> None:
        self.call_after_refresh(self._start_reading)  # draw the first frame before reading

    def _start_reading(self) -> None:
        gc.enable()  # `tui.run` disabled it until the first frame
        gc.freeze()
        self._reader.start()

    @property
    def run_names(self) -> list[str]:
        """The runs seen at the last look, newest first."""
        return [summary.name for summary in self._seen.summaries] if self._seen is not None else []

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Disable and hide the keys that need a run while there are no runs."""
        return action not in _NEED_RUNS or self._seen is None or bool(self._seen.summaries)

    @property
    def table(self) -> RunTable:
        return self.query_one(RunTable)

    # --- the table ----------------------------------------------------------------------------------------------------

    def on_runs_updated(self, message: RunsUpdated) -> None:
        self._seen = message
        self._show()

    def _show(self) -> None:
        if self._seen is None:
            return
        settings, now = self.app.settings, self.app.now()
        losses = self._seen.losses or {}
        every = [
            RunRow(summary, tuple(losses.get(summary.name, ())), _age_seconds(summary.created_at, now))
            for summary in self._seen.summaries
        ]
        rows = [row for row in every if _matches(row.summary, self._filter)]
        by = settings.sort if settings.sort in SORTABLE else "age"
        self.table.marked &= {row.name for row in every}
        self.table.show(ordered(rows, by, settings.sort_reversed), by, settings.sort_reversed, settings.cells)
        if self.has_class("-no-runs") == bool(every):
            self.set_class(not every, "-no-runs")
            self.refresh_bindings()
        self.query_one("#filter-count", Static).update(line(f"{len(rows)} of {len(every)}"))
        if not every:
            shown = _unreadable(self._seen.problem) if self._seen.problem else _welcome(self.size.width)
            self.query_one("#empty", Static).update(shown)
        self._show_chosen()

    def _show_chosen(self) -> None:
        row, story = self.table.current, self._seen.story if self._seen is not None else None
        self._reader.choose(row.name if row is not None else None)
        if row is None or story is None or story[0] != row.name or self.size.height < _STORY_FROM_ROWS:
            story = None
        show(self.query_one("#chosen", Static), _details(row, len(self.table.marked), story))

    on_run_table_run_highlighted = _show_chosen

    def on_resize(self) -> None:
        self.set_class(self.size.height < _STORY_FROM_ROWS, "-low")
        self._show()

    def on_run_table_run_opened(self, opened: RunTable.RunOpened) -> None:
        self.app.open_run(opened.name)

    def on_run_table_header_clicked(self, clicked: RunTable.HeaderClicked) -> None:
        if clicked.column in SORTABLE:
            is_same = clicked.column == self.app.settings.sort
            self._sort_by(clicked.column, is_same and not self.app.settings.sort_reversed)

    # --- filter and order ---------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self.add_class("-filtering")
        # `Input.focus()` would wait for the next refresh, and keys typed before that would go elsewhere.
        self.set_focus(self.query_one("#filter", Input))

    def on_input_changed(self, event: Input.Changed) -> None:
        self._filter = event.value
        self._show()

    def on_input_submitted(self) -> None:
        if not self._filter:
            self.remove_class("-filtering")
        self.table.focus()

    def action_clear(self) -> None:
        if self.has_class("-filtering"):
            self.query_one("#filter", Input).value = ""
            self.remove_class("-filtering")
        elif self.table.marked:
            self.table.marked.clear()
            self.table.refresh_rows()
        self.table.focus()
        self._show()

    def action_sort(self, by: int) -> None:
        columns, sort = [name for name in self.table.columns if name in SORTABLE] or SORTABLE, self.app.settings.sort
        place = columns.index(sort) if sort in columns else -1
        self._sort_by(columns[(place + by) % len(columns)], False)

    def action_reverse(self) -> None:
        self._sort_by(self.app.settings.sort, not self.app.settings.sort_reversed)

    def _sort_by(self, column: str, is_reversed: bool) -> None:
        self.app.settings.sort, self.app.settings.sort_reversed = column, is_reversed
        self.app.save_settings()
        self._show()

    # --- actions on runs ----------------------------------------------------------------------------------------------

    def _targets(self) -> list[str]:
        """The marked runs, or else the one at the cursor."""
        return self._marked() or ([self.table.current.name] if self.table.current is not None else [])

    def _marked(self) -> list[str]:
        return [row.name for row in self.table.rows if row.name in self.table.marked]

    def action_mark(self) -> None:
        row = self.table.current
        if row is not None:
            self.table.mark(row.name, row.name not in self.table.marked)
            self.table.action_move(1)
            self._show_chosen()

    def action_stop(self) -> None:
        for name in self._targets():
            self.app.run_actions.stop(name)

    def action_resume(self) -> None:
        if self.table.current is not None:
            self.app.run_actions.resume(self.table.current.name)

    def action_delete(self) -> None:
        if names := self._targets():
            self.app.run_actions.delete(names)

    def action_rename(self) -> None:
        if self.table.current is not None:
            self.app.run_actions.rename(self.table.current.name)

    def action_tell(self) -> None:
        if self.table.current is not None:
            self.app.open_story(self.table.current.name)

    def action_compare(self) -> None:
        names = self._marked()
        if len(names) >= 2:
            self.app.open_compare(names)
        else:
            self.app.say("mark two runs or more with space, then press c")


def _age_seconds(created_at: str | None, now: float) -> float | None:
    try:
        created = datetime.datetime.fromisoformat(created_at or "")
        if created.tzinfo is None:
            created = created.replace(tzinfo=datetime.UTC)
        return max(0.0, now - created.timestamp())
    except (ValueError, OverflowError):
        return None


def _matches(summary: RunSummary, words: str) -> bool:
    """True if all words are part of the run's name, state or preset."""
    text = f"{summary.name} {summary.state} {summary.preset or ''}".casefold()
    return all(word in text for word in words.casefold().split())


def _details(row: RunRow | None, n_marked: int, story: tuple[str, int, str] | None) -> Content:
    """The run's state, what its row does not show, and its newest story."""
    if row is None:
        return Content("")
    from storyteller.charts.ticks import format_duration

    summary = row.summary
    _, word, kind = STATES[summary.state]
    facts = (
        f"{n_marked} marked" if n_marked else None,
        summary.preset,
        f"{summary.tokens:,} tokens" if summary.tokens is not None else None,
        f"{format_duration(round(summary.seconds))} trained" if summary.seconds is not None else None,
        f"loss {summary.train_loss:.3f}" if summary.train_loss is not None else None,
        summary.wandb_url,
    )
    died = "its process died: press r to resume from the newest checkpoint" if word == "died" else ""
    parts: list[Content | str] = [line(summary.name, "bold"), "  ", line(word, STATE_COLORS[kind])]
    if message := summary.message or died:
        parts += ["  ", line(message, "$text-error" if kind == "bad" else "$text-warning", 400)]
    parts += ["\n", line("   ".join(filter(None, facts)), "$text-muted")]
    if story is not None:
        parts += ["\n\n", line(f"story at step {story[1]:,}  ", "$text-muted"), plain(story[2], "italic")]
    return Content.assemble(*parts)


def _unreadable(problem: str) -> Content:
    """Why no runs are shown. The reader keeps trying."""
    return plain(problem, "$text-error") + "\n\nThey appear here as soon as they can be read."


def _welcome(width: int) -> Content:
    """What a new user can do while there are no runs."""
    keys = {
        "n": "train your first model" + ("" if width < 64 else ": it takes five minutes"),
        "3": "generate stories with the starter, a small model that is included",
        "?": "show every key",
        "q": "quit; training continues",
    }
    lines = [line("There are no runs yet.", "bold"), Content("")]
    lines += [Content.assemble(line(f" {key} ", "bold $primary"), "  ", line(does)) for key, does in keys.items()]
    lines += [Content(""), line("Without the app: storyteller train", "$text-muted")]
    return Content("\n").join(lines)
