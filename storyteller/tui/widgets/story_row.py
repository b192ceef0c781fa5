"""The columns of a story variant, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message

from storyteller.tracking.run_index import newest_step
from storyteller.tui.safe_content import line
from storyteller.tui.story_columns import StoryColumn, status_text
from storyteller.tui.widgets.story_pane import StoryPane, TextSpan

_CHECK_SECONDS = 1.0
_KEYS = {
    "enter": " generates a story that begins with the prompt above, a new one each time\n",
    "tab": " leads to the sampling settings, which the arrow keys change\n",
    "ctrl+t": " chooses the model: any checkpoint of any run, or one from the Hugging Face Hub\n",
    "f1": " shows every key",
}
_GUIDE = [TextSpan(text, text in _KEYS.values()) for pair in _KEYS.items() for text in pair]
"""Shown while there is no story, the keys in bold."""


class StoryRow(Horizontal):
    """Holds a pane for each column, and watches for new checkpoints of the columns' models."""

    DEFAULT_CSS = """
    StoryRow {
        height: 1fr;
        &.several StoryPane.chosen ModelName { text-style: underline; }
    }
    """

    @dataclass
    class StepsChanged(Message):
        """The newest checkpoint steps by model name; posted when one has changed."""

        steps: dict[str, int | None]

    def __init__(self, runs_root: Path) -> None:
        super().__init__()
        self._runs_root = runs_root
        self._columns: list[StoryColumn] = []

    def on_mount(self) -> None:
        self.set_interval(_CHECK_SECONDS, self._check_steps)

    @property
    def panes(self) -> list[tuple[StoryPane, StoryColumn]]:
        """Each mounted pane with its column."""
        return list(zip(self.query(StoryPane), self._columns, strict=False))

    def lay_out(self, columns: list[StoryColumn]) -> None:
        """Show these columns, kept by reference. New panes are mounted at the next refresh."""
        self._columns = columns
        panes = list(self.query(StoryPane))
        for pane in panes[len(columns) :]:
            pane.remove()
        new = [StoryPane() for _ in columns[len(panes) :]]
        if new:
            self.mount(*new)

    def show(self) -> None:
        """Show the text of each column."""
        for pane, column in self.panes:
            guide = _GUIDE if column.version.request is None else ()
            pane.story.show(column.version.spans or guide, is_generating=column.version.ticket is not None)

    def show_details(self, chosen: int) -> None:
        """Update the lines above and below the stories, and mark the chosen column."""
        self.set_class(len(self._columns) > 1, "several")
        for place, (pane, column) in enumerate(self.panes):
            problem, remedy = column.version.failure or ("", "")
            pane.set_class(place == chosen, "chosen")
            pane.set_details(_name_line(column), status_text(column.version, column.model), problem, remedy)

    def _check_steps(self) -> None:
        """Look for newer checkpoints of the shown models, on a thread because disks may be slow."""
        if not self.screen.is_current:
            return
        shown = {column.model: column.newest for column in self._columns}

        def check() -> None:
            newest = {model: newest_step(self._runs_root, model) for model in shown}
            if newest != shown:
                self.post_message(self.StepsChanged(newest))

        self.run_worker(check, thread=True, exclusive=True, group="check")


def _name_line(column: StoryColumn) -> Content:
    """The column's model, and its newest checkpoint if the story is not from it."""
    version = column.version
    label = version.label if version.request is not None and version.request.model == column.model else ""
    name = line(label or column.model, "bold $primary") + line(" \u25be", "$text-muted")
    if column.newest is None or ("@" in column.model and not column.model.endswith("@latest")):
        return name
    step = label.rpartition("@")[2]
    if not label:
        return name + line(f"  newest checkpoint, step {column.newest:,}", "$text-muted")
    if step.isdecimal() and int(step) < column.newest:
        return name + line(f"  newer checkpoint {column.newest:,}: ctrl+n", "$secondary")
    return name
