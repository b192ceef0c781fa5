"""The story screen: every key, with a real child process and real tiny models."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input, OptionList, Static

from storyteller.config.configs import SamplingParams
from storyteller.inference import story_history
from storyteller.inference.background import Ended, Event, Failed, GenerationClient, ModelOpened, TextPiece
from storyteller.inference.story_history import StoryRecord
from storyteller.text import safe
from storyteller.tracking import checkpoint_folders, run_folder
from storyteller.tracking.run_index import default_model, newest_step
from storyteller.tui.app import StorytellerApp
from storyteller.tui.screens.history import HistoryScreen
from storyteller.tui.screens.save import SaveScreen, free_name, save
from storyteller.tui.screens.story import StoryScreen
from storyteller.tui.widgets.model_picker import ModelChoice, ModelPicker, list_models, matching
from storyteller.tui.widgets.prompt_box import PromptBox
from storyteller.tui.widgets.sampling_controls import Knob, SamplingControls
from storyteller.tui.widgets.story_pane import StoryPane, StoryText
from tests.support import tiny_models

HOSTILE = "[/end] [@click=app.quit]x[/] \x1b]52;c;AAAA\x07 \x9b31m \u202eoops"


# --- a house with a run in it -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: `fox`, whose step 10 generates a script and whose step 20 never ends; `owl`, without a checkpoint."""
    runs = tmp_path_factory.mktemp("runs")
    for name, created in (("fox", "2026-01-01T00:00:00Z"), ("owl", "2026-01-02T00:00:00Z")):
        run_folder.create(runs, name).write_run({"name": name, "created_at": created})
    fox = run_folder.RunFolder(runs / "fox")
    seal(fox, 10, lambda path: tiny_models.script_folder(path, "Once, a fox.\nThe end."), 1.5)
    seal(fox, 20, lambda path: tiny_models.random_folder(path, eos_token_id=None, bos_token_id=None), 1.25)
    return runs


def seal(folder: run_folder.RunFolder, step: int, fill: Callable[[Path], object], bpb: float) -> None:
    staging = checkpoint_folders.stage(folder, step)
    shutil.rmtree(staging)
    fill(staging)
    checkpoint_folders.seal(staging, folder, step, {"eval/bpb": bpb})


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[GenerationClient]:
    made = GenerationClient(root)
    yield made
    made.close()


class House:
    """The app with the Story view open, and how a test looks at it."""

    def __init__(self, app: StorytellerApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def screen(self) -> StoryScreen:
        return next(screen for screen in self.app.screen_stack if isinstance(screen, StoryScreen))

    @property
    def texts(self) -> list[str]:
        """What the panes show."""
        return [pane.story.text for pane in self.screen.query(StoryPane)]

    @property
    def text(self) -> str:
        return self.texts[0]

    @property
    def said(self) -> str:
        return str(self.screen.query_one(".message", Static).content)

    @property
    def facts(self) -> str:
        return str(self.screen.query_one(StoryPane).facts.content)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, what: Callable[[], object], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, "it never came to be so"
            await self.pilot.pause(0.01)
        await self.pilot.pause()

    async def over(self) -> None:
        """Wait until nothing is being generated."""
        await self.until(lambda: not self.screen.variants.is_generating)

    async def begun(self) -> None:
        """Until something of a story is there, and more to come."""
        await self.until(lambda: all(column.version.generated for column in self.screen.variants.columns))


def in_house(root: Path, client: GenerationClient | None, size: tuple[int, int] = (100, 30)) -> Any:
    """Run an asynchronous test in an app with the Story view open."""

    def opened(model: str | None = "fox@10", prompt: str = "") -> contextlib.AbstractAsyncContextManager[House]:
        @contextlib.asynccontextmanager
        async def open_() -> AsyncIterator[House]:
            app = StorytellerApp(root, settings_path=Path("settings.json").absolute())
            async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
                if client is not None:
                    app.generation_client = client
                app.open_story(model, prompt)
                await pilot.pause()
                house = House(app, pilot)
                try:
                    yield house
                finally:
                    for screen in app.screen_stack:
                        if isinstance(screen, StoryScreen):
                            screen.action_stop()
                    if client is not None:
                        del app.generation_client  # the next test uses it too: the app must not close it

        return open_()

    return opened


def run(test: Awaitable[None]) -> None:
    async def main() -> None:
        await test

    asyncio.run(main())


# --- telling ----------------------------------------------------------------------------------------------------------


def test_enter_generates_a_story_that_is_kept_in_the_history(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)() as house:
            assert "enter generates a story" in house.text
            await house.press(*"Once", "enter")
            await house.over()
            assert house.text == "Once, a fox.\nThe end."
            column = house.screen.variants.column
            assert column.version.label == "fox@10" and column.version.outcome == "the end"
            seed = column.version.request.params.seed if column.version.request else None
            assert house.facts.startswith(f"seed {seed} \u00b7 17 tokens") and house.facts.endswith("the end")
            await house.until(lambda: story_history.recent(5))
            (record,) = story_history.recent(5)
            assert (record.model, record.prompt, record.text) == ("fox@10", "Once", ", a fox.\nThe end.")
            assert record.seed == seed and record.tokens == 17 and record.finished
            assert record.runs_dir == str(root) and not record.goes_on

    run(test())


def test_escape_stops_a_story_within_a_fifth_of_a_second_and_keys_are_answered_meanwhile(
    root: Path, client: GenerationClient
) -> None:
    async def test() -> None:
        async with in_house(root, client)("fox") as house:
            house.screen.query_one(SamplingControls).params = SamplingParams(max_tokens=100_000)
            await house.press(*"Once", "enter")
            await house.begun()
            await house.press(*" upon")
            assert house.screen.query_one(PromptBox).text == "Once upon" and house.screen.variants.is_generating
            began = time.monotonic()
            house.app.simulate_key("escape")  # a pilot's press waits until nothing moves any more
            while house.screen.variants.is_generating:
                await asyncio.sleep(0.005)
            assert time.monotonic() - began < 0.2
            assert house.screen.variants.column.version.outcome == "stopped" and house.facts.endswith("stopped")
            assert house.app.view == "story"
            before = house.text
            await house.pilot.pause(0.2)
            assert house.text == before == safe(house.screen.variants.column.version.text)
            await house.press("escape")  # nothing is generated: it goes back
            assert house.app.view == "runs"

    run(test())


def test_again_draws_another_seed_more_goes_on_and_undo_leads_back(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)("fox") as house:
            house.screen.query_one(SamplingControls).params = SamplingParams(max_tokens=12)
            await house.press("ctrl+z")
            assert house.said == "there is nothing to undo"
            await house.press("ctrl+o")
            assert house.said == "there is no story yet: enter generates one"
            await house.press(*"Once", "ctrl+n")  # the first time, it is as enter
            await house.over()
            first = house.screen.variants.column.version
            await house.press("ctrl+n")
            await house.over()
            second = house.screen.variants.column.version
            assert first.request and second.request and second.request.params.seed != first.request.params.seed
            assert second.prompt == "Once" and second.generated != first.generated
            await house.press("ctrl+o")
            await house.over()
            third = house.screen.variants.column.version
            assert third.prompt == second.text and third.request and third.request.goes_on
            assert [span.generated for span in third.spans] == [False, True, True]
            await house.press("ctrl+n")  # the newest part alone
            await house.over()
            assert (
                house.screen.variants.column.version.prompt == second.text
                and house.screen.variants.column.version.request.goes_on
            )
            await house.press("ctrl+z", "ctrl+z")
            assert house.screen.variants.column.version is second and house.text == safe(second.text)
            await house.press("ctrl+z", "ctrl+z")
            assert "enter generates a story" in house.text
            await house.until(lambda: len(story_history.recent(9)) == 4)
            assert [record.goes_on for record in story_history.recent(9)] == [True, True, False, False]

    run(test())


def test_an_empty_prompt_goes_on_with_the_story_or_says_what_to_write(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)() as house:
            await house.press("enter")
            assert house.said == "write how the story begins, such as Once upon a time"
            await house.press(*"Once,", "enter")
            await house.over()
            house.screen.query_one(PromptBox).prompt = ""
            await house.press("enter")
            await house.over()
            assert house.screen.variants.column.version.prompt == "Once, a fox.\nThe end."

    run(test())


def test_the_prompt_takes_lines_and_pasted_controls_are_shown_as_their_pictures(
    root: Path, client: GenerationClient
) -> None:
    async def test() -> None:
        async with in_house(root, client)() as house:
            box = house.screen.query_one(PromptBox)
            await house.press("a", "ctrl+j", "b")
            assert box.text == "a\nb" and box.size.height == 2
            box.insert(f"\r\n{HOSTILE}")
            assert box.text == safe(f"a\nb\n{HOSTILE}")
            await house.press("enter")
            await house.over()
            assert house.text.startswith(safe(f"a\nb\n{HOSTILE}"))

    run(test())


def test_edit_takes_the_story_into_the_prompt_word_for_word(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)(prompt=f"Once{HOSTILE}") as house:
            await house.press("ctrl+e")
            assert house.said == "there is no story yet: enter generates one"
            await house.press("enter")
            await house.over()
            page = house.screen.variants.column.version
            assert page.prompt == f"Once{HOSTILE}"  # what was given, not its pictures
            await house.press("ctrl+e")
            box = house.screen.query_one(PromptBox)
            assert box.has_focus and box.prompt == page.text and box.text == safe(page.text)
            await house.press("x", "enter")
            await house.over()
            assert house.screen.variants.column.version.prompt == safe(page.text) + "x"

    run(test())


@pytest.mark.slow
def test_fork_makes_a_variant_and_the_other_stays_as_it_is(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)("fox") as house:
            house.screen.query_one(SamplingControls).params = SamplingParams(max_tokens=12)
            await house.press(*"Once", "enter")
            await house.over()
            first = house.text
            await house.press("ctrl+f")
            assert house.text == first and str(house.screen.query_one("#variants").render()) == "variant 1  variant 2"
            await house.press("ctrl+o")
            await house.over()
            second = house.text
            assert second.startswith(first) and second != first
            await house.press("alt+left")
            assert house.text == first
            await house.press("alt+right")
            assert house.text == second
            await house.press("alt+right")  # round it goes
            assert house.text == first
            await house.pilot.click("#variants", offset=(13, 0))
            await house.pilot.pause()
            assert house.text == second
            await house.press("ctrl+w")
            assert house.text == first and not house.screen.query_one("#variants").display
            for _ in range(9):
                await house.press("ctrl+f")
            assert house.said == "there are 9 variants, the maximum: ctrl+w closes one"

    run(test())


@pytest.mark.slow
def test_a_fork_made_while_a_story_is_told_has_what_was_told_by_then(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)("fox") as house:
            house.screen.query_one(SamplingControls).params = SamplingParams(max_tokens=100_000)
            await house.press(*"Once", "enter")
            await house.begun()
            await house.press("ctrl+f")
            forked = house.text
            assert not house.screen.variants.is_generating and len(forked) > 4
            await house.press("alt+left")
            await house.until(lambda: len(house.text) > len(forked))  # it has gone on meanwhile, and does
            assert house.text.startswith(forked) and house.screen.variants.is_generating
            await house.press("escape")
            await house.over()

    run(test())


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_model_is_chosen_from_every_checkpoint_there_is(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)(None) as house:
            assert house.screen.variants.column.model == "fox"  # the newest run that has a checkpoint
            assert str(house.screen.query_one(StoryPane).name_line.content) == "fox \u25be  newest checkpoint, step 20"
            await house.press("ctrl+t")
            picker = house.app.screen
            assert isinstance(picker, ModelPicker)
            options = picker.query_one(OptionList)
            rows = [" ".join(str(options.get_option_at_index(i).prompt).split()) for i in range(options.option_count)]
            assert rows == [
                "fox newest checkpoint, step 20 \u00b7 died",
                "@20 1.250 bits per byte \u00b7 best",
                "@10 1.500 bits per byte",
                "starter comes with storyteller",
            ]
            assert options.highlighted == 0
            await house.press("down", "down", "enter")
            assert house.screen.variants.column.model == "fox@10"
            await house.press("ctrl+t")
            assert options is not house.app.screen.query_one(OptionList)
            assert house.app.screen.query_one(OptionList).highlighted == 2  # the one that is chosen
            await house.press("escape")
            assert house.screen.variants.column.model == "fox@10"
            await house.press("ctrl+t", *"fox 20", "enter")
            assert house.screen.variants.column.model == "fox@20"
            await house.pilot.click("ModelName")
            await house.pilot.pause()
            assert isinstance(house.app.screen, ModelPicker)
            await house.press(*"nobody/nothing")
            await house.press("enter")
            assert house.screen.variants.column.model == "nobody/nothing"

    run(test())


@pytest.mark.slow
def test_a_new_checkpoint_is_seen_in_the_picker_and_beside_the_model(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folder = run_folder.create(runs, "hen")
    folder.write_run({"name": "hen", "created_at": "2026-01-01T00:00:00Z"})
    seal(folder, 10, lambda path: tiny_models.script_folder(path, "Once ten."), 2.0)
    own = GenerationClient(runs)

    async def test() -> None:
        async with in_house(runs, own)("hen") as house:
            await house.press(*"Once", "enter")
            await house.over()
            assert house.text == "Once ten."
            seal(folder, 20, lambda path: tiny_models.script_folder(path, "Once twenty."), 1.0)
            line = house.screen.query_one(StoryPane).name_line
            await house.until(lambda: str(line.content) == "hen@10 \u25be  newer checkpoint 20: ctrl+n", 5)
            await house.press("ctrl+n")
            await house.over()
            assert house.text == "Once twenty." and str(line.content) == "hen@20 \u25be"
            await house.press("ctrl+t", "down")
            options = house.app.screen.query_one(OptionList)
            assert options.option_count == 4
            seal(folder, 30, lambda path: tiny_models.script_folder(path, "Once thirty."), 1.0)
            await house.until(lambda: options.option_count == 5, 5)
            assert "@20" in str(options.get_option_at_index(options.highlighted or 0).prompt)  # the lit one stays lit
            await house.press("escape")
            shutil.rmtree(folder.path)  # the model vanishes
            await house.press("ctrl+n")
            await house.over()
            pane = house.screen.query_one(StoryPane)
            assert str(pane.failure.content).startswith("there is no run hen: no runs yet in ")
            assert pane.failure.display and house.text == "Once"

    try:
        run(test())
    finally:
        own.close()


def test_a_model_that_is_added_begins_like_the_others_when_they_are_generated_again(
    root: Path, client: GenerationClient
) -> None:
    async def test() -> None:
        async with in_house(root, client)("fox@10") as house:
            house.screen.query_one(SamplingControls).params = SamplingParams(max_tokens=20)
            await house.press(*"Once", "enter")
            await house.over()
            await house.press("ctrl+b", "down", "enter")
            await house.until(lambda: len(house.texts) == 2)
            assert "enter generates a story" in house.texts[1]
            await house.press("ctrl+n")
            await house.over()
            assert [column.version.prompt for column in house.screen.variants.columns] == ["Once", "Once"]
            assert all(text.startswith("Once") for text in house.texts)

    run(test())


@pytest.mark.slow
def test_models_side_by_side_get_the_same_prompt_and_seed(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)("fox@10") as house:
            house.screen.query_one(SamplingControls).params = SamplingParams(max_tokens=20)
            await house.press("ctrl+b", "down", "enter", "ctrl+b", "enter")
            await house.until(lambda: len(house.texts) == 3)
            assert [column.model for column in house.screen.variants.columns] == ["fox@10", "fox@20", "fox"]
            await house.press("ctrl+b")
            assert house.said == "there are 3 models, the maximum: ctrl+w closes a column"
            await house.press(*"Once", "enter")
            await house.over()
            asked = [column.version.request for column in house.screen.variants.columns]
            assert len({each.params.seed for each in asked if each}) == 1
            assert house.texts[0] == "Once, a fox.\nThe end." and house.texts[1] == house.texts[2] != house.texts[0]
            await house.until(lambda: len(story_history.recent(9)) == 3)
            house.screen.query(StoryText)[1].focus()
            await house.pilot.pause()
            assert house.screen.variants.column is house.screen.variants.columns[1]
            await house.press("ctrl+w")
            assert [column.model for column in house.screen.variants.columns] == ["fox@10", "fox"]
            assert len(house.texts) == 2
            await house.press("ctrl+z")
            assert all("enter generates" in text for text in house.texts)

    run(test())


def test_a_model_of_the_hub_that_is_out_of_reach_is_one_clear_line(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)("nobody/nothing") as house:
            await house.press(*"Once", "enter")
            await house.over()
            failure = house.screen.query_one(StoryPane).failure
            assert failure.display
            problem, remedy = str(failure.content).splitlines()
            assert problem.startswith("the Hub does not answer for nobody/nothing (")
            assert remedy == "check the network and try again"
            assert house.facts == "" and story_history.recent(1) == []

    run(test())


def test_a_run_without_a_checkpoint_says_so(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)("owl") as house:
            await house.press(*"Once", "enter")
            await house.over()
            failure = str(house.screen.query_one(StoryPane).failure.content)
            assert failure.startswith("owl has no checkpoint yet")

    run(test())


def test_choices_match_every_word_typed_and_what_looks_like_a_hub_model_comes_first(root: Path) -> None:
    found = list_models(root)
    assert [one.reference for one in matching(found, "")] == ["fox", "fox@20", "fox@10", "starter"]
    assert [one.reference for one in matching(found, "FOX 1")] == ["fox@10"]
    assert matching(found, "a/b")[0] == ModelChoice("a/b", "a/b", "from the Hugging Face Hub")
    assert matching(found, "./here")[0] == ModelChoice("./here", "./here", "a folder")
    assert matching(found, "\0") == []
    assert default_model(root) == "fox" and default_model(root / "nowhere") == "starter"
    steps = {name: newest_step(root, name) for name in ("fox", "fox@10", "latest", "owl", "a/b", "starter", "none")}
    assert steps == {"fox": 20, "fox@10": 20, "latest": 20, "owl": None, "a/b": None, "starter": None, "none": None}


# --- the knobs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_knobs_are_turned_typed_into_and_remembered(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)("fox@10") as house:
            sampling = house.screen.query_one(SamplingControls)
            assert sampling.params == SamplingParams()
            await house.press("tab", "up")
            assert sampling.params.temperature == 0.9
            await house.press("down", "down", "right", *"0.5", "right")
            assert (sampling.params.temperature, sampling.params.top_p) == (0.7, 0.5)
            await house.press("up", "up", "down", "right", *"0.12", "backspace", "tab")
            assert (sampling.params.top_k, sampling.params.min_p) == (SamplingParams().top_k + 10, 0.1)
            await house.press("delete", "right", "down")
            assert sampling.params.max_tokens == 350
            await house.press("right", "up", "right", *"42", "down")
            assert (sampling.params.beams, sampling.params.seed) == (2, 41)
            await house.press(*"any", "enter")
            assert house.said == "write how the story begins, such as Once upon a time"
            assert sampling.params.seed is None
            knob = house.screen.query_one("#top-k", Knob)
            knob.focus()
            await house.press(*"all", "left")
            assert sampling.params.top_k == 0 and knob.shown == "all"
            house.screen.query_one(PromptBox).focus()
            await house.press(*"Once", "enter")
            await house.over()
            wanted = dataclasses.replace(sampling.params, seed=None)
        again = StorytellerApp(root, settings_path=Path("settings.json").absolute())
        assert again.settings.sampling_params() == wanted
        assert again.settings.sampling_params().temperature == 0.7

    run(test())


def test_a_knob_refuses_what_is_no_value_and_nothing_is_generated(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)(prompt="Once") as house:
            house.screen.query_one("#top-p", Knob).focus()
            await house.press(*"1.5", "enter")
            assert house.said == "invalid value 1.5 for --top-p: expected a number above 0 and up to 1"
            assert (
                not house.screen.variants.is_generating
                and house.screen.query_one(SamplingControls).params.top_p == 0.95
            )
            await house.press("backspace", "backspace", "backspace", *"..", "enter")
            assert house.said == "invalid value .. for top-p: expected a number"

    run(test())


def test_the_wheel_turns_a_knob(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)() as house:
            knob = house.screen.query_one("#temperature", Knob)
            await house.pilot._post_mouse_events([__import__("textual.events").events.MouseScrollUp], widget=knob)
            await house.pilot.pause()
            assert knob.value == 0.9

    run(test())


# --- taking it elsewhere ----------------------------------------------------------------------------------------------


def test_copy_gives_the_clipboard_safe_text(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)(prompt=HOSTILE) as house:
            await house.press("ctrl+y")
            assert house.said == "there is no story yet: enter generates one" and house.app.clipboard == ""
            await house.press("enter")
            await house.over()
            await house.press("ctrl+y")
            assert house.app.clipboard == safe(house.screen.variants.column.version.text).strip("\0")
            assert "\x1b" not in house.app.clipboard and house.said.startswith("copied: ")

    run(test())


def test_save_writes_a_new_file_and_never_over_another(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)() as house:
            await house.press("ctrl+s")
            assert house.said == "there is no story yet: enter generates one"
            await house.press(*"Once", "enter")
            await house.over()
            await house.press("ctrl+s")
            assert isinstance(house.app.screen, SaveScreen)
            assert house.app.screen.query_one(Input).value == "once-a-fox-the-end.txt"
            await house.press("enter")
            assert house.said == "saved as once-a-fox-the-end.txt"
            assert Path("once-a-fox-the-end.txt").read_text() == "Once, a fox.\nThe end.\n"
            await house.press("ctrl+s")
            box = house.app.screen.query_one(Input)
            assert box.value == "once-a-fox-the-end-2.txt"
            Path("mine.txt").write_text("mine")
            for name, problem in (
                ("mine.txt", "mine.txt exists: choose another name"),
                ("nowhere/mine.txt", "the folder of nowhere/mine.txt does not exist"),
                ("", "enter a file name"),
            ):
                box.value = name
                await house.press("enter")
                assert str(house.app.screen.query_one(".problem", Static).content) == problem
            assert Path("mine.txt").read_text() == "mine"
            await house.press("escape")
            assert isinstance(house.app.screen, StoryScreen)

    run(test())


def test_a_disk_that_fills_up_while_saving_keeps_nothing_half(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(OSError, match="No space left"):
            save(disk / "story.txt", "once " * 100_000)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_file_names_are_made_of_the_first_words() -> None:
    assert free_name("\u201cOh!\u201d [/end] said Tom. \x1b He") == "oh-end-said-tom-he.txt"
    assert free_name("\u4f60") == "story.txt"
    Path("story.txt").touch()
    assert free_name("") == "story-2.txt"


def kept(prompt: str, text: str, root: Path, **changes: Any) -> StoryRecord:
    told = StoryRecord("fox@10", prompt, text, SamplingParams(seed=7, max_tokens=33), 17, 0.5, True, str(root))
    return dataclasses.replace(told, **changes)


def test_the_history_is_searched_read_and_generated_again(root: Path, client: GenerationClient) -> None:
    story_history.keep(kept("Once", ", a fox.\nThe end.", root))
    story_history.keep(kept("A hen", HOSTILE, root, model="starter", runs_dir=""))

    async def test() -> None:
        async with in_house(root, client)("fox") as house:
            await house.press("ctrl+r")
            history = house.app.screen
            assert isinstance(history, HistoryScreen)
            options = history.query_one(OptionList)
            await house.until(lambda: options.option_count == 2)
            assert history.query_one(StoryText).text == safe(f"A hen{HOSTILE}")  # the newest
            await house.press("down")
            assert history.query_one(StoryText).text == "Once, a fox.\nThe end."
            facts = str(history.query_one(".facts", Static).content)
            assert facts == "fox@10 \u00b7 seed 7 \u00b7 temperature 0.8 \u00b7 17 tokens"
            await house.press(*"HEN")
            await house.until(lambda: options.option_count == 1)
            await house.press("ctrl+o")  # as it was
            page = house.screen.variants.column.version
            assert (
                house.text == safe(f"A hen{HOSTILE}")
                and page.generated == HOSTILE
                and not house.screen.variants.is_generating
            )
            assert house.screen.variants.column.model == "starter"
            await house.press("ctrl+h")
            await house.until(lambda: house.app.screen.query_one(OptionList).option_count == 2)
            await house.press(*"a fox")
            await house.until(lambda: house.app.screen.query_one(OptionList).option_count == 1)
            await house.press("enter")  # again
            await house.over()
            column = house.screen.variants.column
            assert house.text == "Once, a fox.\nThe end." and column.model == "fox@10"
            assert column.version.request and column.version.request.params == SamplingParams(seed=7, max_tokens=33)
            assert house.screen.query_one(SamplingControls).params.seed == 7
            assert house.screen.query_one(PromptBox).prompt == "Once"
            await house.press("ctrl+r", *"nothing like it")
            await house.until(lambda: house.app.screen.query_one(OptionList).option_count == 0)
            assert str(house.app.screen.query_one(".facts", Static).content) == "no story contains this"
            await house.press("enter", "escape")
            assert isinstance(house.app.screen, StoryScreen)

    run(test())


def test_a_story_of_a_run_that_is_gone_is_opened_but_not_told_again(
    root: Path, client: GenerationClient, tmp_path: Path
) -> None:
    story_history.keep(kept("Once", " upon", tmp_path / "elsewhere"))

    async def test() -> None:
        async with in_house(root, client)() as house:
            await house.press("ctrl+r")
            await house.until(lambda: house.app.screen.query_one(OptionList).option_count == 1)
            await house.press("enter")
            facts = str(house.app.screen.query_one(".facts", Static).content)
            assert facts.startswith("there is no run fox: no runs yet in ")
            await house.press("ctrl+o")
            assert house.text == "Once upon"

    run(test())


def test_a_history_that_cannot_be_written_is_reported_and_the_story_stays(root: Path, client: GenerationClient) -> None:
    async def test() -> None:
        async with in_house(root, client)() as house:
            story_history.data_folder().parent.mkdir(parents=True, exist_ok=True)
            story_history.data_folder().write_text("no folder")
            await house.press(*"Once", "enter")
            await house.over()
            await house.until(lambda: house.said)
            assert house.said.startswith("the story is not kept: ")
            assert house.text == "Once, a fox.\nThe end."

    run(test())


# --- what comes from outside ------------------------------------------------------------------------------------------


class Puppet:
    """A generation client that sends the events a test tells it to."""

    def __init__(self) -> None:
        self.hear: dict[int, Callable[[Event], None]] = {}
        self.cancelled: list[int] = []

    def generate(
        self, _model: str, _prompt: str, _sample: SamplingParams, hear: Callable[[Event], None], **_: Any
    ) -> int:
        self.hear[len(self.hear) + 1] = hear
        return len(self.hear)

    def prepare(self, _model: str) -> None: ...

    def close(self) -> None: ...

    def cancel(self, ticket: int) -> None:
        self.cancelled.append(ticket)

    def story(self, ticket: int, text: str, label: str = "fox@20") -> None:
        self.hear[ticket](ModelOpened(ticket, label, 7))
        self.hear[ticket](TextPiece(ticket, text, 40))
        self.hear[ticket](Ended(ticket, text, 40, 0.125, 7, finished=True, stopped=False))


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (160, 45), (20, 4)])
def test_hostile_text_is_shown_as_it_is_at_any_size(root: Path, size: tuple[int, int]) -> None:
    puppet = Puppet()

    async def test() -> None:
        async with in_house(root, puppet, size)(None, HOSTILE) as house:  # type: ignore[arg-type]
            await house.press("enter")
            puppet.story(1, f"{HOSTILE}\n{HOSTILE}", f"{HOSTILE}@3")
            await house.over()
            assert house.text == safe(f"{HOSTILE}{HOSTILE}\n{HOSTILE}")
            await house.press("ctrl+n")
            puppet.hear[2](Failed(2, safe(HOSTILE), HOSTILE))
            await house.over()
            await house.press("ctrl+b", "enter", "ctrl+f", "ctrl+t", "escape", "ctrl+r", "escape", "ctrl+s", "escape")
            assert house.app.is_running
            shot = house.app.export_screenshot()
            assert not set(shot) & {"\x1b", "\x07", "\x9b", "\u202e"}

    run(test())


@pytest.mark.slow
def test_a_story_without_end_does_not_make_a_screen_without_end(root: Path) -> None:
    puppet = Puppet()

    async def test() -> None:
        async with in_house(root, puppet)(None, "Once") as house:  # type: ignore[arg-type]
            await house.press("enter")
            puppet.hear[1](ModelOpened(1, "fox@20", 7))
            for _ in range(8):
                puppet.hear[1](TextPiece(1, ("abc " * 100 + "\n") * 100, 4))
                await house.pilot.pause()
            text = house.screen.query_one(StoryText)
            assert 1500 <= text.virtual_size.height <= 2100 and len(text.text) < 170_000
            assert text.scroll_y == text.max_scroll_y > 0  # it follows
            text.focus()
            await house.press("pageup")
            where, height = text.scroll_y, text.virtual_size.height
            puppet.hear[1](TextPiece(1, "and on\n", 4))
            await house.pilot.pause(0.1)
            dropped = height + 1 - text.virtual_size.height
            assert text.scroll_y == where - dropped < text.max_scroll_y  # but for who reads further up
            await house.press("end")
            puppet.hear[1](TextPiece(1, "and on\n" * 50, 4))
            await house.pilot.pause(0.1)
            assert text.scroll_y == text.max_scroll_y
            assert len(house.screen.variants.column.version.generated) > 320_000

    run(test())


def test_only_the_last_rows_are_drawn_while_a_story_comes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    puppet = Puppet()
    rows: list[int] = []
    render_line = StoryText.render_line

    def spy(text: StoryText, y: int) -> Strip:
        rows.append(y)
        return render_line(text, y)

    async def test() -> None:
        async with in_house(root, puppet)(None, "Once") as house:  # type: ignore[arg-type]
            await house.press("enter")
            puppet.hear[1](ModelOpened(1, "fox@20", 7))
            puppet.hear[1](TextPiece(1, ("abc " * 100 + "\n") * 3 + "and ", 4))
            await house.pilot.pause(0.2)
            monkeypatch.setattr(StoryText, "render_line", spy)
            puppet.hear[1](TextPiece(1, "more", 5))
            await house.pilot.pause(0.2)
            assert len(rows) == 1

    run(test())


def test_leaving_the_view_for_good_stops_its_stories(root: Path) -> None:
    puppet = Puppet()

    async def test() -> None:
        async with in_house(root, puppet)(None, "Once") as house:  # type: ignore[arg-type]
            await house.press("enter")
            house.app.open_story("fox@10", "Another")  # a fresh one takes its place
            await house.until(lambda: puppet.cancelled == [1])

    run(test())


# --- pictures ---------------------------------------------------------------------------------------------------------

STORY = (
    " named Tom. He loved to play with his toys and trucks.\nOne day, Tom saw a big box with his favorite toys in his"
    ' room. The box was cold and shiny.\n"Stop painting with my toy coats," exclaimed Tom. Tom said, "No, Tim, you are'
    ' good you."'
)


@pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids=["80x24", "160x45"])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_picture_of_stories_side_by_side(snap_compare: Any, root: Path, size: tuple[int, int], theme: str) -> None:
    puppet = Puppet()
    app = StorytellerApp(root, settings_path=Path("settings.json").absolute())
    app.generation_client = puppet  # type: ignore[assignment]

    async def before(pilot: Pilot[None]) -> None:
        app.theme = theme
        app.open_story("fox", "Once there was a little boy")
        house = House(app, pilot)
        await pilot.pause()
        house.screen.query_one(PromptBox).cursor_blink = False
        house.screen.query_one(SamplingControls).params = SamplingParams(seed=7, temperature=0.6, top_k=40)
        if size[0] > 80:
            await house.press("ctrl+b", "down", "enter")
        await house.press("enter")
        for ticket in list(puppet.hear):
            puppet.story(ticket, STORY)
        await house.over()
        await house.press("ctrl+f")
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=before)
