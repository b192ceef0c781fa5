"""The stories of a variant, side by side."""

from __future__ import annotations

from pathlib import Path

from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message

from storyteller.tracking.run_index import newest_step
from storyteller.tui.safe_content import line
from storyteller.tui.story_columns import StoryColumn, facts
from storyteller.tui.widgets.story_pane import Part, StoryPane

_LOOK_SECONDS = 1.0
_GUIDE = (
    Part("enter", told=False),
    Part(" tells a story that begins with the words above, a new one each time\n", told=True),
    Part("tab", told=False),
    Part(" leads to the knobs, which the arrows turn\n", told=True),
    Part("ctrl+t", told=False),
    Part(" chooses who tells: any checkpoint of any run, or a model of the Hugging Face Hub\n", told=True),
    Part("f1", told=False),
    Part(" shows every key", told=True),
)
"""What stands where no story is yet."""


class StoryRow(Horizontal):
    """A pane for each column."""

    DEFAULT_CSS = """
    StoryRow {
        height: 1fr;
        &.several StoryPane.chosen ModelName { text-style: underline; }
    }
    """

    class StepsSeen(Message):
        """The newest steps of the models that are shown, by their names."""

        def __init__(self, steps: dict[str, int | None]) -> None:
            super().__init__()
            self.steps = steps

    def __init__(self, runs_root: Path) -> None:
        super().__init__()
        self._runs_root = runs_root
        self._columns: list[StoryColumn] = []

    def on_mount(self) -> None:
        self.set_interval(_LOOK_SECONDS, self._look)

    @property
    def panes(self) -> list[tuple[StoryPane, StoryColumn]]:
        """Each pane with its column, as far as they are there."""
        return list(zip(self.query(StoryPane), self._columns, strict=False))

    def lay_out(self, columns: list[StoryColumn]) -> None:
        """Take these columns, and what becomes of the list; their panes are there after the next refresh."""
        self._columns = columns
        panes = list(self.query(StoryPane))
        for pane in panes[len(columns) :]:
            pane.remove()
        new = [StoryPane() for _ in columns[len(panes) :]]
        if new:
            self.mount(*new)

    def show(self) -> None:
        """Show each column's story as it stands."""
        for pane, column in self.panes:
            guide = _GUIDE if column.page.asked is None else ()
            pane.story.show(column.page.parts or guide, telling=column.page.ticket is not None)

    def show_lines(self, chosen: int) -> None:
        """The lines around the stories, the chosen column's marked."""
        self.set_class(len(self._columns) > 1, "several")
        for place, (pane, column) in enumerate(self.panes):
            problem, remedy = column.page.failure or ("", "")
            pane.set_class(place == chosen, "chosen")
            pane.say(_name_line(column), facts(column.page, column.model), problem, remedy)

    def _look(self) -> None:
        """See whether a run that is shown has a newer checkpoint; on a thread, since disks may be slow."""
        if not self.screen.is_current:
            return
        shown = {column.model: column.newest for column in self._columns}

        def look() -> None:
            seen = {model: newest_step(self._runs_root, model) for model in shown}
            if seen != shown:
                self.post_message(self.StepsSeen(seen))

        self.run_worker(look, thread=True, exclusive=True, group="look")


def _name_line(column: StoryColumn) -> Content:
    """The column's model, and the step that it would be told from now."""
    page = column.page
    label = page.label if page.asked is not None and page.asked.model == column.model else ""
    name = line(label or column.model, "bold $primary") + line(" \u25be", "$text-muted")
    if column.newest is None or ("@" in column.model and not column.model.endswith("@latest")):
        return name
    step = label.rpartition("@")[2]
    if not label:
        return name + line(f"  the newest, step {column.newest:,}", "$text-muted")
    if step.isdecimal() and int(step) < column.newest:
        return name + line(f"  step {column.newest:,} is there: ctrl+n", "$secondary")
    return name
