"""The header of the run view: the run's state, progress and newest figures."""

from __future__ import annotations

import math

from textual import getters
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from storyteller.charts.ticks import format_duration, format_number
from storyteller.tracking.run_index import RunSummary
from storyteller.tracking.run_status import LIVING
from storyteller.tui import safe_content
from storyteller.tui.base_app import BaseApp
from storyteller.tui.widgets.run_columns import STATE_COLORS, STATES, progress_bar, short_duration

_GONE = "its folder was deleted: what was read from it stays here until you leave"
_DIED = "its process died: press r to resume from the newest checkpoint, L to show the log"


class RunHeader(Static):
    """Two rows, and a third one for a warning or an error."""

    DEFAULT_CSS = "RunHeader { height: auto; max-height: 4; padding: 0 1; }"

    app = getters.app(BaseApp)

    summary: var[RunSummary | None] = var[RunSummary | None](None, init=False, always_update=True)
    gone: var[bool] = var(False, init=False)  # whether the folder was deleted
    note: var[str] = var("", init=False)  # shown among the figures, such as how much of the log was read

    def __init__(self, run_name: str) -> None:
        super().__init__(markup=False)
        self._run_name = run_name

    def _fill(self) -> None:
        width = self.content_size.width
        if width < 1:
            return
        rows = [self._state_row(width)]
        if self.app.size.height >= 14:
            rows.append(self._figures_row(width))
        message = self._message()
        if message:
            rows.append(message)
        layout = len(rows) != self.size.height or message is not None
        safe_content.show(self, Content("\n").join(rows), layout=layout)

    watch_summary = watch_gone = watch_note = on_mount = on_resize = _fill

    def _state_row(self, width: int) -> Content:
        summary = self.summary
        if summary is None:
            return safe_content.line(self._run_name, "bold")
        glyph, word, kind = STATES[summary.state]
        if self.gone:
            glyph, word, kind = "\u2717", "deleted", "bad"
        left = Content.assemble(safe_content.line(f"{glyph} {word}", STATE_COLORS[kind]), "  ")
        right = self._progress(summary, width)
        if width - left.cell_length - right.cell_length < 10:
            right = Content("")
        room = max(1, width - left.cell_length - right.cell_length - (2 if right else 0))
        name = safe_content.line(self._run_name, "bold", room)
        gap = width - left.cell_length - name.cell_length - right.cell_length
        return Content.assemble(left, name, " " * max(0, gap), right if gap >= 1 else "")

    def _progress(self, summary: RunSummary, width: int) -> Content:
        if summary.progress is None:
            return Content("")
        living = summary.state in LIVING and not self.gone
        percent = f"{math.floor(100 * summary.progress):>3} %"
        left = f"  {short_duration(summary.eta_seconds)} left" if summary.eta_seconds is not None and living else ""
        done, rest = progress_bar(summary.progress, min(40, width // 4), self.app.settings.cells)
        return Content.assemble(
            (done, "$primary" if living else "$text-muted"),
            (rest, "$foreground 20%"),
            f" {percent}",
            safe_content.line(left, "$text-muted"),
        )

    def _figures_row(self, width: int) -> Content:
        """As many of the newest figures as fit, the most important first."""
        summary = self.summary
        if summary is None:
            return safe_content.line(self.note or "reading \u2026", "$text-muted")
        known = [(f"{summary.step:,}", "step")] if summary.step is not None else []
        bpb, loss, speed, tokens = summary.eval_bpb, summary.train_loss, summary.tokens_per_second, summary.tokens
        for value, unit in ((bpb, "bits/byte"), (loss, "loss"), (speed, "tokens/s"), (tokens, "tokens")):
            if value is not None:
                known.append((format_number(value), unit))
        if summary.seconds is not None:
            known.append((format_duration(summary.seconds), "trained"))
        if self.note:
            known.append((self.note, ""))
        row = Content("")
        for shown, unit in known:
            before = "step " if unit == "step" else ""
            after = f" {unit}" if unit not in ("step", "") else ""
            style = "bold" if unit in ("step", "bits/byte") else "$text-muted" if not unit else ""
            part = Content.assemble((before, "$text-muted"), safe_content.line(shown, style), (after, "$text-muted"))
            gap = "   " if row else ""
            if row.cell_length + len(gap) + part.cell_length > width:
                break
            row = Content.assemble(row, gap, part)
        return row or safe_content.line("no data yet", "$text-muted")

    def _message(self) -> Content | None:
        summary, style = self.summary, "$text-error"
        if self.gone or summary is None:
            text = _GONE if self.gone else ""
        elif summary.state == "died":
            text = _DIED
        else:
            text, style = summary.message or "", style if summary.state == "failed" else "$text-warning"
        return safe_content.line(text, style, 400) if text else None
