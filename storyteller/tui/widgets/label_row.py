"""The base of widgets that show labels side by side on one row, each of which can be clicked."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content
from textual.events import Click
from textual.widget import Widget


class LabelRow(Widget):
    """Subclasses implement `labels`, which draws them with `joined`, and `on_label_clicked`."""

    ALLOW_SELECT = False
    GAP = 2  # columns between two labels

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.places: list[tuple[str, int, int]] = []
        """The name of each label shown, its first column, and the column after its last."""

    def render(self) -> Content:
        self.places = []
        return self.labels()

    def labels(self) -> Content:
        raise NotImplementedError

    def joined(self, labels: Iterable[tuple[str, Content]], begin: int = 0) -> Content:
        """Join named labels, the first of which stands at column `begin`, and remember their columns."""
        shown = []
        for name, label in labels:
            self.places.append((name, begin, begin + label.cell_length))
            begin += label.cell_length + self.GAP
            shown.append(label)
        return Content(" " * self.GAP).join(shown)

    def on_click(self, event: Click) -> None:
        column = event.x - self.styles.padding.left
        for name, begin, end in self.places:
            # Half of the gap on each side belongs to the label.
            if begin - self.GAP // 2 <= column < end + self.GAP // 2:
                self.on_label_clicked(name)

    def on_label_clicked(self, name: str) -> None:
        raise NotImplementedError
