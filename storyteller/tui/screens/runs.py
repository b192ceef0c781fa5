"""The runs, live: the app's home."""

from __future__ import annotations

import datetime
import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Static

from storyteller.tui.base_app import BaseApp
from storyteller.tui.readers.runs_reader import RunsReader, RunsUpdated
from storyteller.tui.safe_content import line, plain
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.run_columns import SORTABLE, STATES, RunRow, ordered
from storyteller.tui.widgets.run_table import RunTable
from storyteller.tui.widgets.view_bar import ViewBar

if TYPE_CHECKING:
    from storyteller.tracking.run_index import RunSummary

STATE_COLORS = {
    "good": "$text-success",
    "busy": "$text-warning",
    "rest": "$text-secondary",
    "dim": "$text-muted",
    "bad": "$text-error",
}
_STORY_FROM_ROWS = 20
"""The least height at which the newest story is shown under the table."""


class RunsScreen(Screen[None]):
    """A table that follows the disk, what is known of the run under the cursor, and what can be done with it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "app.new_run", "New"),
        Binding("s", "stop", "Stop", tooltip="Finish the step, save, stop; a second time: kill"),
        Binding("r", "resume", "Resume", tooltip="Go on; a finished run with more minutes"),
        Binding("t", "tell", "Tell", tooltip="A story from this run's newest checkpoint"),
        Binding("space", "mark", "Mark", tooltip="Mark for compare, stop and delete"),
        Binding("c", "compare", "Compare", tooltip="Compare the marked runs"),
        Binding("slash", "filter", "Filter", key_display="/", tooltip="Show the runs with these words"),
        Binding("o", "sort(1)", "Sort", tooltip="Sort by the next column, or click its head"),
        Binding("O", "reverse", "Turn the order round", show=False),
        Binding("e", "rename", "Rename"),
        Binding("d", "delete", "Delete", tooltip="Delete this run, or the marked ones; asks first"),
        Binding("escape", "clear", "Clear filter and marks", show=False),
    ]
    AUTO_FOCUS = "RunTable"
    PLAIN_COMMAND = "storyteller ps"

    app = getters.app(BaseApp)

    def __init__(self) -> None:
        super().__init__()
        self._reader: RunsReader | None = None
        self._seen: RunsUpdated | None = None
        self._filter = ""

    def compose(self) -> ComposeResult:
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
        self._reader = RunsReader(self, self.app.runs_root)
        self.call_after_refresh(self._begin)  # paint first, then read

    def _begin(self) -> None:
        gc.enable()
        gc.freeze()
        if self._reader is not None:
            self._reader.start()

    def on_unmount(self) -> None:
        if self._reader is not None:
            self._reader.stop()

    def on_screen_suspend(self) -> None:
        if self._reader is not None:
            self._reader.sleep()

    def on_screen_resume(self) -> None:
        if self._reader is not None:
            self._reader.wake()

    @property
    def has_seen(self) -> bool:
        """Whether the reader has looked at all there is."""
        return self._seen is not None and self._seen.losses is not None

    @property
    def run_names(self) -> list[str]:
        """Of the runs that were seen last, the newest first."""
        return [summary.name for summary in self._seen.summaries] if self._seen is not None else []

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Keys that need a run do nothing, and are not offered, where there is none."""
        needs_run = action in (
            "stop",
            "resume",
            "tell",
            "mark",
            "compare",
            "filter",
            "sort",
            "reverse",
            "rename",
            "delete",
        )
        return not (needs_run and self._seen is not None and not self._seen.summaries)

    @property
    def table(self) -> RunTable:
        return self.query_one(RunTable)

    # --- what is seen -------------------------------------------------------------------------------------------------

    def on_runs_updated(self, seen: RunsUpdated) -> None:
        self._seen = seen
        self._show()

    def _show(self) -> None:
        if self._seen is None:
            return
        settings, now = self.app.settings, self.app.now()
        every = [_row(summary, self._seen, now) for summary in self._seen.summaries]
        rows = [row for row in every if _fits(row.summary, self._filter)]
        by = settings.sort if settings.sort in SORTABLE else "age"
        self.table.marked &= {row.name for row in every}
        self.table.show(ordered(rows, by, settings.sort_reversed), by, settings.sort_reversed, settings.cells)
        if self.has_class("-no-runs") == bool(every):
            self.set_class(not every, "-no-runs")
            self.refresh_bindings()
        self.query_one("#filter-count", Static).update(line(f"{len(rows)} of {len(every)}"))
        if not every:
            shown = _unseen(self._seen.problem) if self._seen.problem else _welcome(self.size.width)
            self.query_one("#empty", Static).update(shown)
        self._show_chosen()

    def _show_chosen(self) -> None:
        row = self.table.current
        if self._reader is not None:
            self._reader.choose(row.name if row is not None else None)
        story = self._seen.story if self._seen is not None else None
        told = story if row is not None and story is not None and story[0] == row.name else None
        shown = _about(row, len(self.table.marked), told if self.size.height >= _STORY_FROM_ROWS else None)
        chosen = self.query_one("#chosen", Static)
        if not isinstance(chosen.content, Content) or not chosen.content.is_same(shown):
            chosen.update(shown)

    def on_resize(self) -> None:
        self.set_class(self.size.height < _STORY_FROM_ROWS, "-low")
        self._show()

    def on_run_table_run_highlighted(self) -> None:
        self._show_chosen()

    def on_run_table_run_opened(self, opened: RunTable.RunOpened) -> None:
        self.app.open_run(opened.name)

    def on_run_table_header_clicked(self, clicked: RunTable.HeaderClicked) -> None:
        if clicked.column not in SORTABLE:
            return
        same = clicked.column == self.app.settings.sort
        self._sort_by(clicked.column, same and not self.app.settings.sort_reversed)

    # --- filter and order ---------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.set_focus(self.query_one("#filter", Input))  # at once: the next key may be there already

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
        columns = [name for name in self.table.columns if name in SORTABLE] or list(SORTABLE)
        place = columns.index(self.app.settings.sort) if self.app.settings.sort in columns else -1
        self._sort_by(columns[(place + by) % len(columns)], False)

    def action_reverse(self) -> None:
        self._sort_by(self.app.settings.sort, not self.app.settings.sort_reversed)

    def _sort_by(self, column: str, is_reversed: bool) -> None:
        self.app.settings.sort, self.app.settings.sort_reversed = column, is_reversed
        self.app.save_settings()
        self._show()

    # --- deeds --------------------------------------------------------------------------------------------------------

    def _meant(self) -> list[str]:
        """The marked runs, else the one under the cursor."""
        marked = [row.name for row in self.table.rows if row.name in self.table.marked]
        if marked:
            return marked
        return [self.table.current.name] if self.table.current is not None else []

    def action_mark(self) -> None:
        row = self.table.current
        if row is not None:
            self.table.mark(row.name, row.name not in self.table.marked)
            self.table.action_move(1)
            self._show_chosen()

    def action_stop(self) -> None:
        for name in self._meant():
            self.app.run_actions.stop(name)

    def action_resume(self) -> None:
        if self.table.current is not None:
            self.app.run_actions.resume(self.table.current.name)

    def action_delete(self) -> None:
        names = self._meant()
        if names:
            self.app.run_actions.delete(names)

    def action_rename(self) -> None:
        if self.table.current is not None:
            self.app.run_actions.rename(self.table.current.name)

    def action_tell(self) -> None:
        if self.table.current is not None:
            self.app.open_story(self.table.current.name)

    def action_compare(self) -> None:
        names = [row.name for row in self.table.rows if row.name in self.table.marked]
        if len(names) >= 2:
            self.app.open_compare(names)
        else:
            self.app.say("mark two runs or more with space, then press c")


def _row(summary: RunSummary, seen: RunsUpdated, now: float) -> RunRow:
    return RunRow(summary, tuple((seen.losses or {}).get(summary.name, ())), _age_seconds(summary.created_at, now))


def _age_seconds(created_at: str | None, now: float) -> float | None:
    try:
        created = datetime.datetime.fromisoformat(created_at or "")
        if created.tzinfo is None:
            created = created.replace(tzinfo=datetime.UTC)
        return max(0.0, now - created.timestamp())
    except (ValueError, OverflowError):
        return None


def _fits(summary: RunSummary, words: str) -> bool:
    """Whether every one of the words is in the run's name, state or preset."""
    text = f"{summary.name} {summary.state} {summary.preset or ''}".casefold()
    return all(word in text for word in words.casefold().split())


def _about(row: RunRow | None, n_marked: int, story: tuple[str, int, str] | None) -> Content:
    """What is known of a run beside its row: how it stands, and what it told last."""
    if row is None:
        return Content("")
    from storyteller.charts.ticks import format_duration

    summary = row.summary
    _, word, kind = STATES[summary.state]
    facts = [f"{n_marked} marked"] if n_marked else []
    if summary.preset:
        facts.append(summary.preset)
    if summary.tokens is not None:
        facts.append(f"{summary.tokens:,} tokens")
    if summary.seconds is not None:
        facts.append(f"{format_duration(round(summary.seconds))} trained")
    if summary.train_loss is not None:
        facts.append(f"loss {summary.train_loss:.3f}")
    if summary.wandb_url:
        facts.append(summary.wandb_url)
    said = summary.message or ("its process is gone; r goes on from its newest checkpoint" if word == "died" else "")
    first: list[Content | str] = [line(summary.name, "bold"), "  ", line(word, STATE_COLORS[kind])]
    if said:
        first += ["  ", line(said, "$text-error" if kind == "bad" else "$text-warning", 400)]
    parts = [*first, "\n", line("   ".join(facts), "$text-muted")]
    if story is not None:
        parts += ["\n\n", line(f"at step {story[1]:,} it tells  ", "$text-muted"), plain(story[2], "italic")]
    return Content.assemble(*parts)


def _unseen(problem: str) -> Content:
    """Why no run can be shown; it is looked again all the time."""
    return Content("\n").join(
        [plain(problem, "$text-error"), Content(""), line("They are here once they can be read.")]
    )


def _welcome(width: int) -> Content:
    """The first screen of all: nothing is here yet, and what to do about that."""
    keys: Sequence[tuple[str, str]] = (
        ("n", "train your first storyteller: five minutes, and it speaks"),
        ("3", "talk to the starter, a small model that is here already"),
        ("?", "see every key"),
        ("q", "leave; what trains goes on training"),
    )
    brief = width < 64
    lines = [line("Once upon a time there were no runs here.", "bold"), Content("")]
    for key, words in keys:
        lines.append(
            Content.assemble(line(f" {key} ", "bold $primary"), "  ", line(words.split(":")[0] if brief else words))
        )
    lines += [Content(""), line("Without the app: storyteller train", "$text-muted")]
    return Content("\n").join(lines)
