"""The Run view, by its keys: charts, stories, log and settings of one run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from textual.content import Content
from textual.widgets import Input, Static

from storyteller.config.configs import PROMPTS
from storyteller.tracking.run_status import own_status, write_status
from storyteller.tui.app import StorytellerApp
from storyteller.tui.screens.dialogues import PickRunsScreen
from storyteller.tui.widgets.key_values import KeyValues
from storyteller.tui.widgets.log_view import LogView
from storyteller.tui.widgets.metric_charts import METRICS, SMOOTHINGS, MetricCharts
from storyteller.tui.widgets.run_header import RunHeader
from storyteller.tui.widgets.run_stories import PromptInput, RunStories, StoryCard
from tests.support.watched import (
    STEPS,
    TOLD,
    a_run,
    drawn,
    evaluation,
    grow,
    in_a_loop,
    line,
    save,
    story,
    text_of,
    until,
    watching,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that no test changes."""
    root = tmp_path_factory.mktemp("watched") / "runs"
    a_run(root)
    a_run(root, "shy-owl", slower=2.0, saved=())
    return root


def plain(static: Static) -> str:
    assert isinstance(static.content, Content)
    return static.content.plain


@in_a_loop
async def test_the_head_says_how_the_run_stands(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        state, figures = plain(screen.query_one(RunHeader)).split("\n")
        assert state.startswith("\u2713 finished  brave-fox")
        assert state.endswith("100 %")
        assert figures.startswith(f"step 400   {evaluation(400)['eval/bpb']:.4f} bits/byte   1.")
        assert "brave-fox" in text_of(pilot).split("\n")[1]


@in_a_loop
async def test_one_chart_is_shown_where_there_is_little_room_and_up_and_down_choose_its_metric(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        board = screen.query_one(MetricCharts)
        seen = []
        for _ in METRICS:
            board = await drawn(pilot, screen)
            assert [metric.name for metric in board.visible_metrics] == [board.chosen]
            seen.append(board.chosen)
            assert board.chart.lines[0].x, board.chosen
            await pilot.press("down")
        assert seen == ["loss", "bits/byte", "rate", "norm", "speed", "mfu", "memory", "waits"]
        assert board.chosen == "loss"
        await pilot.press("up")
        assert board.chosen == "waits"


@pytest.mark.slow
@in_a_loop
async def test_all_charts_are_shown_where_there_is_room_and_z_enlarges_one_the_charts_or_the_panel(root: Path) -> None:
    async with watching(root, size=(160, 45)) as (pilot, screen):
        board = await drawn(pilot, screen)
        assert len(board.visible_metrics) == len(METRICS) == 8
        assert all(board._charts[metric.name].lines[0].x for metric in METRICS)
        await pilot.press("z")
        assert [metric.name for metric in board.visible_metrics] == ["loss"]
        await pilot.press("z")
        assert len(board.visible_metrics) == 8
        assert not screen.query_one("#panel").display
        await pilot.press("z")
        assert not board.display
        assert screen.query_one("#panel").display
        await pilot.press("z")
        assert board.display
        assert screen.query_one("#panel").display


@pytest.mark.slow
@in_a_loop
async def test_x_is_steps_then_tokens_then_time_and_stays_so(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        board = await drawn(pilot, screen)
        assert (board.chart.lines[0].x[-1], board.chart.x_name) == (400, "step")
        await pilot.press("x")
        await drawn(pilot, screen)
        assert (board.chart.lines[0].x[-1], board.chart.x_name) == (400 * 512, "tokens")
        assert list(board.chart.marks[0].x) == [200 * 512, 400 * 512]  # the checkpoints, where they lie by tokens
        await pilot.press("x")
        await drawn(pilot, screen)
        assert (board.chart.lines[0].x[-1], board.chart.x_unit) == (100, "seconds")
        await pilot.press("x")
        await drawn(pilot, screen)
        assert board.chart.x_name == "step"
    async with watching(root, x_axis="tokens") as (pilot, screen):
        board = await drawn(pilot, screen)
        assert board.chart.x_name == "tokens"


@in_a_loop
async def test_l_makes_y_logarithmic_and_m_smoothes_more_and_more(root: Path) -> None:
    async with watching(root, smoothing=0.0) as (pilot, screen):
        board = await drawn(pilot, screen)
        rough = list(board.chart.lines[0].y)
        await pilot.press("l")
        assert board.chart.log_y
        await pilot.press("l")
        assert not board.chart.log_y
        for span in (*SMOOTHINGS[1:], SMOOTHINGS[0]):
            await pilot.press("m")
            await drawn(pilot, screen)
            assert screen.app.settings.smoothing == span
            assert (list(board.chart.lines[0].y) == rough) == (span == 0)


@pytest.mark.slow
@in_a_loop
async def test_zoom_and_pan_are_for_all_charts_and_0_shows_all_again(root: Path) -> None:
    async with watching(root, size=(160, 45)) as (pilot, screen):
        board = await drawn(pilot, screen)
        await pilot.press("plus", "plus")
        await drawn(pilot, screen)
        begin, end = board.range
        assert begin is not None and end is not None and 0 < begin < end < 400
        assert {chart.range for chart in board._charts.values()} == {(begin, end)}
        await pilot.press("comma")
        assert board.range[0] is None or board.range[0] < begin
        await pilot.press("full_stop", "minus")
        assert board.range != (None, None)
        await pilot.press("0")
        await drawn(pilot, screen)
        assert {chart.range for chart in board._charts.values()} == {(None, None)}


@in_a_loop
async def test_the_cursor_is_in_all_charts_and_the_story_goes_with_it(root: Path) -> None:
    async with watching(root, size=(160, 45)) as (pilot, screen):
        board = await drawn(pilot, screen)
        await pilot.press("left")
        assert board.cursor_x == 400
        await pilot.press("shift+left", "shift+left")
        await drawn(pilot, screen)
        assert board.cursor_x is not None and 200 < board.cursor_x < 400
        assert {chart.cursor_x for chart in board._charts.values()} == {board.cursor_x}
        assert screen.query_one(RunStories).step == max(step for step in TOLD if step <= board.cursor_x)
        await pilot.press("right")
        assert board.cursor_x > 200
        await pilot.press("0")
        assert board.cursor_x is None


@in_a_loop
async def test_brackets_scrub_through_the_stories_and_the_cursor_goes_with_them(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        stories, board = screen.query_one(RunStories), screen.query_one(MetricCharts)
        assert (stories.step, stories.follows) == (400, True)
        await pilot.press("left_square_bracket")
        assert (stories.step, stories.follows, board.cursor_x) == (300, False, 300)
        text = plain(screen.query_one("#stories-text", Static))
        assert text == PROMPTS[0] + story(PROMPTS[0], 300)
        assert f"step 300   {evaluation(300)['eval/bpb']:.4f} bits/byte" in text_of(pilot)
        await pilot.press(*["left_square_bracket"] * 9)
        assert stories.step == 0
        await pilot.press(*["right_square_bracket"] * 9)
        assert (stories.step, stories.follows) == (400, True)


@pytest.mark.slow
@in_a_loop
async def test_the_slider_is_picked_and_dragged_by_the_mouse(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        stories = screen.query_one(RunStories)
        await pilot.click("StepSlider", offset=(2, 0))
        assert stories.step == 0
        await pilot.click("StepSlider", offset=(2 + 74 // 4, 0))
        assert stories.step == 100
        await pilot.click("StepSlider", offset=(77, 0))
        assert stories.step == 200


@pytest.mark.slow
@in_a_loop
async def test_p_tells_from_the_next_prompt(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        stories = screen.query_one(RunStories)
        for prompt in (*PROMPTS[1:], PROMPTS[0]):
            await pilot.press("p")
            assert stories.prompt == prompt
            assert plain(screen.query_one("#stories-text", Static)) == prompt + story(prompt, 400)


@pytest.mark.slow
@in_a_loop
async def test_v_shows_the_stories_of_all_steps_below_each_other(root: Path) -> None:
    async with watching(root, size=(160, 45)) as (pilot, screen):
        await pilot.press("v")
        cards = list(screen.query(StoryCard))
        assert [card.step for card in cards] == list(TOLD)
        for card in cards:
            assert plain(card).split("\n")[0].startswith(f"step {card.step}   ")
            assert plain(card).split("\n", 1)[1] == PROMPTS[0] + story(PROMPTS[0], card.step)
        await pilot.press("left_square_bracket")
        assert [card.step for card in cards if card.has_class("-current")] == [300]
        await pilot.press("v")
        assert screen.query_one("#stories-text").display


@in_a_loop
async def test_the_log_is_shown_by_L_and_follows_what_comes_unless_it_is_scrolled_up(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", saved=())
    folder.log.write_text("".join(f"00:00:00 line {number}\n" for number in range(100)))
    async with watching(tmp_path / "runs") as (pilot, screen):
        await pilot.press("L")
        log = screen.query_one(LogView)
        await until(pilot, lambda: log.is_vertical_scroll_end and "line 99" in text_of(pilot))
        with folder.log.open("a") as file:
            file.write("00:00:01 the newest\n")
        await until(pilot, lambda: "the newest" in text_of(pilot))
        await pilot.press("home")
        await until(pilot, lambda: "line 0\n" in text_of(pilot))
        with folder.log.open("a") as file:
            file.write("00:00:02 newer still\n")
        await until(pilot, lambda: "00:00:02 newer still" in log.lines)
        assert "line 0\n" in text_of(pilot)
        assert "newer still" not in text_of(pilot)
        await pilot.press("L")
        assert not log.display


@in_a_loop
async def test_the_settings_are_shown_by_g_and_searched_and_those_unlike_the_preset_are_marked(root: Path) -> None:
    async with watching(root, size=(160, 45)) as (pilot, screen):
        await pilot.press("g")
        facts = screen.query_one("#config", KeyValues)
        shown = plain(facts.query_one(Static)).split("\n")
        assert "\u2022 n_embd" in " ".join(shown)
        assert [row.split() for row in shown if "n_embd" in row] == [["\u2022", "n_embd", "32"]]
        assert [row.split() for row in shown if "weight_decay" in row] == [["weight_decay", "0.01"]]
        await pilot.press("slash", *"width n_emb", "enter")
        assert plain(facts.query_one(Static)) == "no match"
        facts.query_one(Input).value = "model layer"
        await pilot.pause()
        rows = plain(facts.query_one(Static)).split("\n")
        assert [rows[0], rows[1].split()] == ["model", ["\u2022", "n_layer", "1"]]


@pytest.mark.slow
@in_a_loop
async def test_the_machine_and_the_versions_are_shown_by_i(root: Path) -> None:
    async with watching(root, size=(160, 45)) as (pilot, screen):
        await pilot.press("i")
        shown = plain(screen.query_one("#machine", KeyValues).query_one(Static)).split("\n")
        rows = [row.split() for row in shown]
        assert ["torch", "2.13.0"] in rows
        assert ["memory_gib", "23.5"] in rows
        assert ["seed", "42"] in rows


@pytest.mark.slow
@in_a_loop
async def test_tabs_are_clicked(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        await pilot.click("#panel TabBar", offset=(17, 0))
        assert screen.query_one(LogView).display
        await pilot.click("MetricCharts TabBar", offset=(8, 0))
        assert screen.query_one(MetricCharts).chosen == "bits/byte"


@in_a_loop
async def test_other_runs_are_drawn_over_it_and_compared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[list[str]] = []
    monkeypatch.setattr(StorytellerApp, "open_compare", lambda _, names: compared.append(list(names)))
    async with watching(root) as (pilot, screen):
        await pilot.press("c")
        assert compared == []
        await pilot.press("a")
        assert isinstance(pilot.app.screen, PickRunsScreen)
        await pilot.press("space", "enter")
        board = await drawn(pilot, screen)
        assert [(series.name, series.color) for series in board.chart.lines] == [("brave-fox", 0), ("shy-owl", 1)]
        assert board.chart.lines[1].y[-1] > board.chart.lines[0].y[-1]
        await pilot.press("c")
        assert compared == [["brave-fox", "shy-owl"]]
        await pilot.press("a", "space", "enter")
        await drawn(pilot, screen)
        assert len(board.chart.lines) == 1
        await pilot.press("a", "escape")
        assert pilot.app.screen_stack[-1] is screen


@in_a_loop
async def test_what_is_missing_is_told_from_the_checkpoint_by_enter(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", saved=())
    save(folder, 250)
    async with watching(tmp_path / "runs") as (pilot, screen):
        stories = screen.query_one(RunStories)
        await until(pilot, lambda: stories.at_checkpoint or 250 in stories.steps)
        await pilot.press("left_square_bracket", "left_square_bracket")
        assert stories.step == 250
        assert "No story at this checkpoint" in text_of(pilot)
        await pilot.press("enter")
        told = screen._reader.history
        await until(pilot, lambda: told.at(PROMPTS[0], 250) is not None)
        whole = "Once upon a time at step 250 a fox spoke."
        await until(pilot, lambda: plain(screen.query_one("#stories-text", Static)) == whole)
        assert "generated later" in text_of(pilot)


@pytest.mark.slow
@in_a_loop
async def test_a_prompt_of_ones_own_is_told_at_every_checkpoint(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        stories = screen.query_one(RunStories)
        await pilot.press("P", *"Once", "escape")
        assert stories.prompt == PROMPTS[0]
        assert pilot.app.screen is screen
        await pilot.press("P", *"Once", "enter")
        assert stories.prompt == "Once"
        assert not screen.query_one(PromptInput).display
        await until(pilot, lambda: screen._reader.history.steps("Once") == (200, 400))
        whole = "Once upon a time at step 400 a fox spoke."
        await until(pilot, lambda: plain(screen.query_one("#stories-text", Static)) == whole)
        told = screen._reader.history.at("Once", 200)
        assert told is not None and (told.seed, told.later) == (42, True)


@pytest.mark.slow
@in_a_loop
async def test_a_checkpoint_that_vanishes_fails_its_story_with_a_line(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", saved=(250,))
    async with watching(tmp_path / "runs") as (pilot, screen):
        await pilot.press("left_square_bracket", "left_square_bracket")
        (folder.checkpoint(250) / "model.safetensors").unlink()
        await pilot.press("enter")
        await until(pilot, lambda: "model.safetensors" in text_of(pilot))
        shutil.rmtree(folder.checkpoint(250))
        await until(pilot, lambda: 250 not in screen.query_one(RunStories).steps)
        assert screen.query_one(RunStories).step in TOLD


@in_a_loop
async def test_t_opens_the_story_view_with_the_newest_or_the_chosen_checkpoint(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []
    monkeypatch.setattr(StorytellerApp, "open_story", lambda _, model, prompt="": opened.append((model, prompt)))
    async with watching(root) as (pilot, _screen):
        await pilot.press("t", "left_square_bracket", "left_square_bracket", "t")
        assert opened == [("brave-fox", ""), ("brave-fox@200", PROMPTS[0])]


@in_a_loop
async def test_a_new_line_of_the_log_is_on_the_screen_within_a_second_and_a_bit(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", saved=())
    async with watching(tmp_path / "runs", size=(160, 45)) as (pilot, screen):
        grow(folder, 402)
        await until(pilot, lambda: screen.query_one(MetricCharts).chart.lines[0].x[-1] == 402, seconds=10)
        await until(pilot, lambda: "step 402" in plain(screen.query_one(RunHeader)), seconds=10)
        assert f"{line(402)['train/loss']:.3f} loss" in plain(screen.query_one(RunHeader))


@in_a_loop
async def test_a_run_whose_process_is_gone_is_shown_as_died(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", saved=())
    write_status(folder, own_status("running", step=STEPS))
    async with watching(tmp_path / "runs") as (pilot, screen):
        assert plain(screen.query_one(RunHeader)).startswith("\u25cf running")
        status = own_status("running", step=STEPS)
        write_status(folder, type(status)("running", 2**22 + 1, 1.0, step=STEPS))
        await until(pilot, lambda: "died" in plain(screen.query_one(RunHeader)), seconds=5)
        assert "press r to resume from the newest checkpoint" in text_of(pilot)


@pytest.mark.slow
@in_a_loop
async def test_what_a_run_waits_for_is_said(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", saved=())
    write_status(folder, own_status("waiting", step=STEPS, message="waiting for stories"))
    async with watching(tmp_path / "runs") as (pilot, screen):
        assert plain(screen.query_one(RunHeader)).startswith("\u25d4 waiting")
        assert "\n waiting for stories\n" in text_of(pilot)


@pytest.mark.slow
@in_a_loop
async def test_stop_and_resume_say_why_they_cannot(root: Path) -> None:
    async with watching(root, size=(160, 45)) as (pilot, _screen):
        await pilot.press("s")
        await until(pilot, lambda: "is not training" in text_of(pilot) or "has finished" in text_of(pilot))
        await pilot.press("r")
        await until(pilot, lambda: "has finished. How many more" in text_of(pilot))


@pytest.mark.slow
@in_a_loop
async def test_escape_goes_back_to_the_runs_and_the_reader_rests(root: Path) -> None:
    async with watching(root) as (pilot, screen):
        await pilot.press("escape")
        assert pilot.app.screen is not screen
        assert not screen._reader._awake.is_set()
        await pilot.press("2")
        assert pilot.app.screen is screen
        assert screen._reader._awake.is_set()
