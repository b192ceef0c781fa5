"""The stories of a run, scrubbed by step: one at a time, or all of one prompt below each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Input, Static

from storyteller.config.configs import PROMPTS
from storyteller.text import safe
from storyteller.tracking.sample_history import LONGEST_CHARS, SampleHistory
from storyteller.tui import safe_content
from storyteller.tui.checkpoint_stories import CheckpointStories
from storyteller.tui.widgets.step_slider import StepSlider, beside

_MOST_CARDS = 24
_CARD_CHARS = 600


class PromptInput(Input):
    """A prompt of one's own; escape leaves it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave", show=False)]

    class Left(Message):
        """Nothing is asked."""

    def action_leave(self) -> None:
        self.post_message(self.Left())


class StoryCard(Static):
    """One step's story among those of other steps; a click chooses it."""

    class Chosen(Message):
        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, step: int) -> None:
        super().__init__(markup=False)
        self.step = step
        self._shown: Content | None = None

    def show(self, content: Content, here: bool) -> None:
        self.set_class(here, "-here")
        if self._shown is None or not content.is_same(self._shown):
            self._shown = content
            self.update(content)

    def on_click(self, event: Click) -> None:
        event.stop()
        self.post_message(self.Chosen(self.step))


class RunStories(Vertical):
    """It follows the newest step until an earlier one is chosen."""

    DEFAULT_CSS = """
    RunStories { height: 1fr; }
    RunStories > #stories-prompt { height: auto; max-height: 3; }
    RunStories > PromptInput { height: 1; border: none; padding: 0; background: $panel; display: none; }
    RunStories > PromptInput.-asked { display: block; }
    RunStories > #stories-title { height: 1; }
    RunStories > #stories-one, RunStories > #stories-all { height: 1fr; margin-top: 1; }
    RunStories > #stories-all { display: none; }
    RunStories.-all > #stories-all { display: block; }
    RunStories.-all > #stories-one { display: none; }
    RunStories.-low > #stories-one, RunStories.-low > #stories-all { margin-top: 0; }
    RunStories.-low > #stories-prompt, RunStories.-all > #stories-title { display: none; }
    RunStories StoryCard { height: auto; max-height: 12; padding: 0 1; margin-bottom: 1; border-left: tall transparent; }
    RunStories StoryCard.-here { border-left: tall $primary; }
    """

    class Moved(Message):
        """Another step is shown."""

        def __init__(self, step: int | None, by_hand: bool) -> None:
            super().__init__()
            self.step = step
            self.by_hand = by_hand
            """Whether the user chose it."""

    class Asked(Message):
        """Stories from a prompt are wanted at steps where there are none."""

        def __init__(self, prompt: str, steps: tuple[int, ...]) -> None:
            super().__init__()
            self.prompt = prompt
            self.steps = steps

    def __init__(self, growth: SampleHistory, retelling: CheckpointStories, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._growth = growth
        self._retelling = retelling
        self._prompt = PROMPTS[0]
        self._own: list[str] = []
        self._checkpoints: tuple[int, ...] = ()
        self._best: int | None = None
        self._here: int | None = None
        self.follows = True
        """Whether it goes on to each newer story."""
        self._bpb_at: Callable[[int], float | None] = lambda _: None

    def compose(self) -> ComposeResult:
        yield Static(id="stories-prompt", markup=False)
        yield PromptInput(placeholder="a prompt of your own; enter tells it at every checkpoint", compact=True)
        yield StepSlider()
        yield Static(id="stories-title", markup=False)
        with VerticalScroll(id="stories-one"):
            yield Static(id="stories-text", markup=False)
        yield VerticalScroll(id="stories-all")

    def on_mount(self) -> None:
        self.refresh_stories()

    def on_resize(self) -> None:
        self.set_class(self.size.height < 14, "-low")
        self.refresh_stories()

    # --- what is shown ------------------------------------------------------------------------------------------------

    @property
    def prompt(self) -> str:
        return self._prompt

    @property
    def step(self) -> int | None:
        """The step whose story is shown."""
        return self._here

    @property
    def at_checkpoint(self) -> bool:
        """Whether the step that is shown has a checkpoint."""
        return self._here in self._checkpoints

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that have a story from the prompt, or a checkpoint to tell one from."""
        return tuple(sorted({*self._growth.steps(self._prompt), *self._checkpoints}))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts there are: told from in training, and the user's own."""
        told = self._growth.prompts or PROMPTS
        return (*told, *(prompt for prompt in self._own if prompt not in told))

    def take(self, checkpoints: Sequence[int], best: int | None, bpb_at: Callable[[int], float | None]) -> None:
        """What there is now; `bpb_at` tells a step's bits per byte."""
        self._checkpoints, self._best, self._bpb_at = tuple(checkpoints), best, bpb_at
        self.refresh_stories()

    def refresh_stories(self) -> None:
        """Show what there is now: a story grew, came, or its checkpoint went."""
        if not self.is_attached or not self.query("#stories-text"):
            return
        prompts = self.prompts
        if self._prompt not in prompts:
            self._prompt = prompts[0]
        steps = self.steps
        told = self._growth.steps(self._prompt)
        before = self._here
        if not steps:
            self._here = None
        elif self._here is None or self.follows:
            telling = self._retelling.telling
            now = telling[1] if telling is not None and telling[0] == self._prompt else None
            self._here = now if now is not None else told[-1] if told else steps[-1]
        elif self._here not in steps:
            self._here = min(steps, key=lambda step: abs(step - (self._here or 0)))
        self.query_one(StepSlider).show(steps, told, self._here)
        self._put("#stories-prompt", self._prompt_row(prompts))
        title = self._title(self._here)
        if self.has_class("-low"):  # one row for both
            title = Content.assemble(title, "   ", self._prompt_row(prompts, title.cell_length + 3))
        self._put("#stories-title", title)
        if self.has_class("-all"):
            self._show_all(steps)
        else:
            self._put("#stories-text", self._story(self._here))
        if self._here != before:
            self.post_message(self.Moved(self._here, by_hand=False))

    def _put(self, selector: str, content: Content) -> None:
        static = self.query_one(selector, Static)
        if not isinstance(static.content, Content) or not content.is_same(static.content):
            static.update(content)

    def _prompt_row(self, prompts: tuple[str, ...], taken: int = 0) -> Content:
        place = prompts.index(self._prompt) + 1
        room = max(8, self.size.width - taken - 14)
        return Content.assemble(
            safe_content.line(f"\u201c{self._prompt}\u201d", "italic", room),
            (f"  {place} of {len(prompts)}", "$text-muted"),
        )

    def _title(self, step: int | None) -> Content:
        if step is None:
            return safe_content.line("no story has been told yet", "$text-muted")
        bpb = self._bpb_at(step)
        parts = [safe_content.line(f"step {step:,}", "bold")]
        if bpb is not None:
            parts.append(safe_content.line(f"{bpb:.4f} bits/byte"))
        if step in self._checkpoints:
            parts.append(safe_content.line("best checkpoint" if step == self._best else "checkpoint", "$text-muted"))
        told = self._growth.at(self._prompt, step)
        if told is not None and told.later:
            parts.append(safe_content.line("told later", "$text-muted"))
        return Content("   ").join(parts)

    def _story(self, step: int | None, most_chars: int = LONGEST_CHARS) -> Content:
        """The story told at a step, as far as it is told."""
        if step is None:
            return safe_content.plain(
                "Stories appear as the run is evaluated, the same prompts each time.", "$text-muted"
            )
        told = self._growth.at(self._prompt, step)
        if told is not None:
            text = told.text[:most_chars].rstrip() + (" \u2026" if len(told.text) > most_chars else "")
            return Content.assemble(safe_content.plain(self._prompt, "$text-muted"), safe_content.plain(text))
        so_far = self._retelling.so_far(self._prompt, step)
        said = self._retelling.words(self._prompt, step)
        if so_far:
            return Content.assemble(
                safe_content.plain(self._prompt, "$text-muted"),
                safe_content.plain(so_far[:most_chars]),
                ("\u258d", "$primary"),
            )
        if said:
            failed = so_far is None
            return safe_content.plain(said, "$text-error" if failed else "$text-muted")
        return safe_content.plain(
            "Nothing was told at this checkpoint. Press enter to have it told now.", "$text-muted"
        )

    def _show_all(self, steps: tuple[int, ...]) -> None:
        """A card a step, the oldest first; of many, some evenly."""
        shown = list(steps)
        if len(shown) > _MOST_CARDS:
            shown = sorted({steps[i * (len(steps) - 1) // (_MOST_CARDS - 1)] for i in range(_MOST_CARDS)})
        scroll = self.query_one("#stories-all", VerticalScroll)
        cards = {card.step: card for card in scroll.query(StoryCard)}
        for step, card in cards.items():
            if step not in shown:
                card.remove()
        fresh: list[StoryCard] = []
        for step in shown:
            card = cards.get(step) or StoryCard(step)
            if step not in cards:
                fresh.append(card)
            content = Content("\n").join([self._title(step), self._story(step, _CARD_CHARS)])
            card.show(content, here=step == self._here)
        if fresh:
            later = [card for card in cards.values() if card.step > fresh[-1].step and card.step in shown]
            scroll.mount(*fresh, before=later[0] if later else None)
            scroll.sort_children(key=lambda card: card.step if isinstance(card, StoryCard) else 0)

    # --- what the user does -------------------------------------------------------------------------------------------

    def move(self, by: int) -> None:
        """Show the story `by` steps later; at the newest one it follows again."""
        self.go(beside(self.steps, self._here, by))

    def go(self, step: int | None, *, quiet: bool = False) -> None:
        """Show the story of a step; `quiet` posts nothing."""
        if step is None or step == self._here:
            return
        steps = self.steps
        self._here = step
        self.follows = bool(steps) and step == steps[-1]
        self.refresh_stories()
        self.query_one("#stories-one", VerticalScroll).scroll_home(animate=False)
        for card in self.query(StoryCard):
            if card.step == step:
                card.scroll_visible(animate=False)
        if not quiet:
            self.post_message(self.Moved(step, by_hand=True))

    def nearest(self, step: float) -> int | None:
        """The step with a story that is the last one up to there, else the first."""
        steps = self.steps
        before = [known for known in steps if known <= step]
        return before[-1] if before else steps[0] if steps else None

    def next_prompt(self) -> None:
        prompts = self.prompts
        place = prompts.index(self._prompt) if self._prompt in prompts else -1
        self._prompt = prompts[(place + 1) % len(prompts)]
        self.refresh_stories()

    def all_below_each_other(self, wanted: bool) -> None:
        """Show the stories of all steps, or one."""
        self.set_class(wanted, "-all")
        self.refresh_stories()
        if wanted:
            self.call_after_refresh(self._show_here)

    def _show_here(self) -> None:
        for card in self.query(StoryCard):
            if card.step == self._here:
                card.scroll_visible(animate=False)

    def tell_missing(self) -> None:
        """Ask for what is missing: here, or where all are shown, at every checkpoint."""
        if self.has_class("-all"):
            wanted = self._checkpoints
        else:
            wanted = (self._here,) if self._here is not None and self._here in self._checkpoints else ()
        missing = tuple(step for step in wanted if self._growth.at(self._prompt, step) is None)
        self.post_message(self.Asked(self._prompt, missing))

    def ask_prompt(self) -> None:
        """Let the user type a prompt."""
        line = self.query_one(PromptInput)
        line.add_class("-asked")
        self.screen.set_focus(line)  # at once: the next key may be there already

    def on_prompt_input_left(self, event: PromptInput.Left) -> None:
        event.stop()
        self._close_prompt()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        prompt = event.value.strip()[:LONGEST_CHARS]
        self._close_prompt()
        if not prompt:
            return
        if prompt not in self._own:
            self._own.append(prompt)
        self._prompt, self.follows = prompt, True
        self.post_message(self.Asked(prompt, self._checkpoints))
        self.refresh_stories()

    def _close_prompt(self) -> None:
        line = self.query_one(PromptInput)
        line.remove_class("-asked")
        line.value = ""
        if line.has_focus:
            self.screen.set_focus(None)

    def on_step_slider_picked(self, event: StepSlider.Picked) -> None:
        event.stop()
        self.go(event.step)

    def on_story_card_chosen(self, event: StoryCard.Chosen) -> None:
        event.stop()
        self.go(event.step)

    def copyable(self) -> str:
        """The story that is shown, prompt and all, safe to show."""
        told = self._growth.at(self._prompt, self._here) if self._here is not None else None
        return safe(self._prompt + told.text) if told is not None else ""
