"""The stories that a run generated from a prompt: the story of one step, or of all steps below each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Input, Static

from storyteller.config.configs import PROMPTS
from storyteller.tracking.sample_history import LONGEST_CHARS, SampleHistory
from storyteller.tui import safe_content
from storyteller.tui.checkpoint_stories import CheckpointStories
from storyteller.tui.widgets.step_slider import StepSlider, step_after

_MAX_CARDS = 24
_MAX_CARD_CHARS = 600


class PromptInput(Input):
    """The field for a prompt of the user's own; escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel", show=False)]

    async def action_cancel(self) -> None:
        self.value = ""
        await self.action_submit()


class StoryCard(Static):
    """The story of one step, in the list of all steps."""

    def __init__(self, step: int) -> None:
        super().__init__(markup=False)
        self.step = step

    def on_click(self, event: Click) -> None:
        event.stop()
        self.post_message(StepSlider.StepPicked(self.step))


class RunStories(Vertical):
    """Shows the newest story until the user chooses an earlier step."""

    DEFAULT_CSS = """
    RunStories { height: 1fr; }
    RunStories > #stories-prompt { height: auto; max-height: 3; }
    RunStories > PromptInput { height: 1; border: none; padding: 0; background: $panel; display: none; }
    RunStories > PromptInput.-open { display: block; }
    RunStories > #stories-title { height: 1; }
    RunStories > #stories-one, RunStories > #stories-all { height: 1fr; margin-top: 1; }
    RunStories > #stories-all { display: none; }
    RunStories.-all > #stories-all { display: block; }
    RunStories.-all > #stories-one { display: none; }
    RunStories.-low > #stories-one, RunStories.-low > #stories-all { margin-top: 0; }
    RunStories.-low > #stories-prompt, RunStories.-all > #stories-title { display: none; }
    RunStories StoryCard {
        height: auto; max-height: 12; padding: 0 1; margin-bottom: 1;
        border-left: tall transparent;
    }
    RunStories StoryCard.-current { border-left: tall $primary; }
    """

    @dataclass
    class StepShown(Message):
        """Another step is shown."""

        step: int | None
        by_hand: bool  # True if the user chose it, False if a newer story came

    @dataclass
    class StoriesRequested(Message):
        """The user wants stories for this prompt from the checkpoints of these steps."""

        prompt: str
        steps: tuple[int, ...]

    def __init__(self, samples: SampleHistory, requests: CheckpointStories) -> None:
        super().__init__()
        self._samples = samples
        self._requests = requests
        self.prompt = PROMPTS[0]
        self._own_prompts: list[str] = []
        self._checkpoints: tuple[int, ...] = ()
        self._best: int | None = None
        self.step: int | None = None  # the step whose story is shown
        self.follows = True  # whether each newer story is shown as it comes
        self._bpb_at: Callable[[int], float | None] = lambda _: None

    def compose(self) -> ComposeResult:
        yield Static(id="stories-prompt", markup=False)
        yield PromptInput(placeholder="your own prompt; enter generates a story at every checkpoint", compact=True)
        yield StepSlider()
        yield Static(id="stories-title", markup=False)
        with VerticalScroll(id="stories-one"):
            yield Static(id="stories-text", markup=False)
        yield VerticalScroll(id="stories-all")

    def on_resize(self) -> None:
        self.set_class(self.size.height < 14, "-low")
        self.refresh_stories()

    # --- what is shown ------------------------------------------------------------------------------------------------

    @property
    def at_checkpoint(self) -> bool:
        """Whether the current step has a checkpoint."""
        return self.step in self._checkpoints

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that have a story for the prompt, or a checkpoint to generate one from; ascending."""
        return tuple(sorted({*self._samples.steps(self.prompt), *self._checkpoints}))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts used in training, then the user's own."""
        of_training = self._samples.prompts or PROMPTS
        return (*of_training, *(prompt for prompt in self._own_prompts if prompt not in of_training))

    def set_checkpoints(
        self, checkpoints: Sequence[int], best: int | None, bpb_at: Callable[[int], float | None]
    ) -> None:
        """Set the checkpoints' steps; `bpb_at` returns the held-out bits per byte at a step."""
        self._checkpoints, self._best, self._bpb_at = tuple(checkpoints), best, bpb_at
        self.refresh_stories()

    def refresh_stories(self) -> None:
        """Show the current stories: called when a story grew or was finished, or the checkpoints changed."""
        if not self.is_attached or not self.query("#stories-text"):
            return
        prompts = self.prompts
        if self.prompt not in prompts:
            self.prompt = prompts[0]
        steps = self.steps
        with_story = self._samples.steps(self.prompt)
        before = self.step
        if not steps:
            self.step = None
        elif self.step is None or self.follows:
            generating = self._requests.current
            if generating is not None and generating[0] == self.prompt:
                self.step = generating[1]
            else:
                self.step = with_story[-1] if with_story else steps[-1]
        elif self.step not in steps:
            self.step = min(steps, key=lambda step: abs(step - (self.step or 0)))
        slider = self.query_one(StepSlider)
        slider.steps, slider.with_story, slider.current = steps, frozenset(with_story), self.step
        safe_content.show(self.query_one("#stories-prompt", Static), self._prompt_row(prompts))
        title = self._title(self.step)
        if self.has_class("-low"):  # too low for two rows: the prompt shares the title's
            title = Content.assemble(title, "   ", self._prompt_row(prompts, title.cell_length + 3))
        safe_content.show(self.query_one("#stories-title", Static), title)
        if self.has_class("-all"):
            self._show_all(steps)
        else:
            safe_content.show(self.query_one("#stories-text", Static), self._story(self.step))
        if self.step != before:
            self.post_message(self.StepShown(self.step, by_hand=False))

    on_mount = refresh_stories

    def _prompt_row(self, prompts: tuple[str, ...], taken: int = 0) -> Content:
        place = prompts.index(self.prompt) + 1
        room = max(8, self.size.width - taken - 14)
        return Content.assemble(
            safe_content.line(f"\u201c{self.prompt}\u201d", "italic", room),
            (f"  {place} of {len(prompts)}", "$text-muted"),
        )

    def _title(self, step: int | None) -> Content:
        if step is None:
            return safe_content.line("no story yet", "$text-muted")
        bpb = self._bpb_at(step)
        parts = [safe_content.line(f"step {step:,}", "bold")]
        if bpb is not None:
            parts.append(safe_content.line(f"{bpb:.4f} bits/byte"))
        if step in self._checkpoints:
            parts.append(safe_content.line("best checkpoint" if step == self._best else "checkpoint", "$text-muted"))
        sample = self._samples.at(self.prompt, step)
        if sample is not None and sample.later:
            parts.append(safe_content.line("generated later", "$text-muted"))
        return Content("   ").join(parts)

    def _story(self, step: int | None, max_chars: int = LONGEST_CHARS) -> Content:
        """The story of a step as far as it was generated, or why there is none."""
        if step is None:
            return safe_content.plain("Stories appear with each evaluation, for the same prompts.", "$text-muted")
        prompt = safe_content.plain(self.prompt, "$text-muted")
        sample = self._samples.at(self.prompt, step)
        if sample is not None:
            text = sample.text[:max_chars].rstrip() + (" \u2026" if len(sample.text) > max_chars else "")
            return Content.assemble(prompt, safe_content.plain(text))
        so_far = self._requests.partial_text(self.prompt, step)
        if so_far:
            return Content.assemble(prompt, safe_content.plain(so_far[:max_chars]), ("\u258d", "$primary"))
        message = self._requests.status(self.prompt, step)
        if message:
            return safe_content.plain(message, "$text-error" if so_far is None else "$text-muted")
        return safe_content.plain("No story at this checkpoint. Press enter to generate one.", "$text-muted")

    def _show_all(self, steps: tuple[int, ...]) -> None:
        """Show a card for each step, or for `_MAX_CARDS` evenly spaced ones; the oldest first."""
        shown = list(steps)
        if len(shown) > _MAX_CARDS:
            shown = sorted({steps[i * (len(steps) - 1) // (_MAX_CARDS - 1)] for i in range(_MAX_CARDS)})
        scroll = self.query_one("#stories-all", VerticalScroll)
        cards = {card.step: card for card in scroll.query(StoryCard)}
        new = [StoryCard(step) for step in shown if step not in cards]
        for step, card in [*cards.items(), *((card.step, card) for card in new)]:
            if step in shown:
                safe_content.show(card, Content("\n").join([self._title(step), self._story(step, _MAX_CARD_CHARS)]))
                card.set_class(step == self.step, "-current")
            else:
                card.remove()
        if new:
            scroll.mount(*new)
            scroll.sort_children(key=lambda card: card.step if isinstance(card, StoryCard) else 0)

    # --- actions ------------------------------------------------------------------------------------------------------

    def move_by(self, by: int) -> None:
        """Show the story `by` steps later; the newest one is followed again."""
        self.show_step(step_after(self.steps, self.step, by))

    def show_step(self, step: int | None, *, quiet: bool = False) -> None:
        """Show the story of a step; `quiet` posts no message."""
        if step is None or step == self.step:
            return
        steps = self.steps
        self.step = step
        self.follows = bool(steps) and step == steps[-1]
        self.refresh_stories()
        self.query_one("#stories-one", VerticalScroll).scroll_home(animate=False)
        self._scroll_to_current()
        if not quiet:
            self.post_message(self.StepShown(step, by_hand=True))

    def nearest_step(self, step: float) -> int | None:
        """The last step with a story up to `step`, else the first one; None without any."""
        steps = self.steps
        before = [known for known in steps if known <= step]
        return before[-1] if before else steps[0] if steps else None

    def next_prompt(self) -> None:
        prompts = self.prompts
        place = prompts.index(self.prompt) if self.prompt in prompts else -1
        self.prompt = prompts[(place + 1) % len(prompts)]
        self.refresh_stories()

    def show_all_steps(self, wanted: bool) -> None:
        """Show the stories of all steps below each other, or one story."""
        self.set_class(wanted, "-all")
        self.refresh_stories()
        if wanted:
            self.call_after_refresh(self._scroll_to_current)

    def _scroll_to_current(self) -> None:
        for card in self.query(StoryCard):
            if card.step == self.step:
                card.scroll_visible(animate=False)

    def request_missing(self) -> None:
        """Request the missing stories of the prompt: of the current checkpoint, or of all that are shown."""
        shown = self._checkpoints if self.has_class("-all") else (self.step,) if self.step is not None else ()
        missing = tuple(
            step for step in shown if step in self._checkpoints and self._samples.at(self.prompt, step) is None
        )
        self.post_message(self.StoriesRequested(self.prompt, missing))

    def edit_prompt(self) -> None:
        """Open the field for a prompt."""
        field = self.query_one(PromptInput)
        field.add_class("-open")
        # `focus()` would wait for the next refresh, and keys typed before that would go elsewhere.
        self.screen.set_focus(field)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        field = self.query_one(PromptInput)
        field.remove_class("-open")
        field.value = ""
        if field.has_focus:
            self.screen.set_focus(None)
        prompt = event.value.strip()[:LONGEST_CHARS]
        if not prompt:
            return
        if prompt not in self._own_prompts:
            self._own_prompts.append(prompt)
        self.prompt, self.follows = prompt, True
        self.post_message(self.StoriesRequested(prompt, self._checkpoints))
        self.refresh_stories()

    def on_step_slider_step_picked(self, event: StepSlider.StepPicked) -> None:
        event.stop()
        self.show_step(event.step)
