"""The runs, live: the app's home."""

from __future__ import annotations

from typing import ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import DataTable, Footer

from storyteller.runs import store
from storyteller.tui.app import StorytellerApp
from storyteller.tui.watch import RunsSeen, Watch
from storyteller.tui.words import line


class RunsScreen(Screen[None]):
    app = getters.app(StorytellerApp)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("n", "app.new_run", "New run")]

    def compose(self) -> ComposeResult:
        table: DataTable[object] = DataTable(cursor_type="row")
        table.add_columns("run", "state", "step")
        yield table
        yield Footer()

    def on_mount(self) -> None:
        root = self.app.runs_root
        self._watch = Watch(self, lambda: [store.summarise(f) for f in store.list_runs(root)], RunsSeen, 0.5)
        self._watch.start()

    def on_unmount(self) -> None:
        self._watch.stop()

    def on_runs_seen(self, seen: RunsSeen) -> None:
        table = self.query_one(DataTable)
        table.clear()
        for summary in seen.summaries:
            table.add_row(line(summary.name), summary.state, str(summary.step), key=summary.name)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.app.open_run(str(event.row_key.value))
