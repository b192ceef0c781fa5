"""The session: what each line does to the story, and how it is at a real terminal."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storyteller.cli.story_output import HistoryWriter, OutputStream
from storyteller.cli.tell_session import COMMANDS, Session
from storyteller.config.configs import SamplingParams
from storyteller.inference import story_history
from storyteller.inference.loaded_model import LoadedModel
from tests.support import tiny_models
from tests.support.ptys import Terminal, at_terminal
from tests.support.training import make_run, sealed_script

TALE = "Once a fox ran to the sea and swam."


class Talk:
    """A session whose answers can be read."""

    def __init__(self, model: str, columns: int = 80, **sample: object) -> None:
        self.shown = io.StringIO()
        self.loaded = LoadedModel(model)
        settings = SamplingParams(**{"max_tokens": 4, **sample})  # type: ignore[arg-type]
        self.session = Session(self.loaded, settings, OutputStream(self.shown), HistoryWriter(True), lambda: columns)

    def __call__(self, line: str) -> str:
        """What a line is answered with."""
        before = self.shown.tell()
        assert self.session.answer(line)
        return self.shown.getvalue()[before:]

    @property
    def story(self) -> str:
        return self.session.story


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    """With a model that says TALE by heart, four letters at a time."""
    one = Talk(str(tiny_models.script_folder(tmp_path / "script", TALE)))
    yield one
    one.loaded.close()


@pytest.fixture
def wild(tmp_path: Path) -> Iterator[Talk]:
    """With a model of random weights: what it tells depends on the seed."""
    folder = tiny_models.random_folder(tmp_path / "random", eos_token_id=None, bos_token_id=None)
    one = Talk(str(folder), max_tokens=20)
    yield one
    one.loaded.close()


# --- telling ----------------------------------------------------------------------------------------------------------


def test_a_line_begins_a_story_and_enter_goes_on_with_it(talk: Talk) -> None:
    assert talk("Once") == "Once a f\n"
    assert talk("") == "ox r\n"
    assert talk("  ") == "an t\n"
    assert talk.story == "Once a fox ran t"
    assert talk("Once a") == "Once a fox\n"


def test_enter_alone_begins_a_story_where_there_is_none(talk: Talk) -> None:
    talk("")
    assert talk.story.startswith("Once upon a time")
    assert len(talk.story) == len("Once upon a time") + 4


def test_more_goes_on_after_words_of_the_reader_s_own(talk: Talk) -> None:
    talk("Once")
    assert talk("/more ox") == "oxran \n"
    assert talk.story == "Once a f oxran "
    assert talk("/more") == "to t\n"


def test_again_tells_the_last_part_anew_and_undo_brings_the_first_back(wild: Talk) -> None:
    wild("Once")
    first = wild.story
    wild("/again")
    second = wild.story
    assert second.startswith("Once") and second != first
    wild("")
    assert wild.story.startswith(second)
    wild("/undo")
    wild("/undo")
    assert wild.story == first
    wild("/undo")
    assert wild("/undo") == "there is nothing to undo\n"
    assert wild.story == ""


def test_again_after_going_on_keeps_what_was_before(wild: Talk) -> None:
    wild("Once")
    begun = wild.story
    wild("")
    longer = wild.story
    wild("/again")
    assert wild.story.startswith(begun) and wild.story != longer
    assert len(begun) < len(wild.story)


def test_a_fork_leaves_the_other_story_as_it_was(wild: Talk) -> None:
    assert wild("/fork") == "there is no story to fork yet\n"
    wild("Once")
    trunk = wild.story
    assert wild("/fork") == "this is fork 2; /fork 1 returns to the story as it was\n"
    wild("")
    branch = wild.story
    assert wild("/fork 1") and wild.story == trunk
    wild("")
    assert wild("/fork 2") and wild.story == branch
    assert wild("/fork 3") == "there is no fork 3: there are forks 1 to 2\n"


def test_a_seed_that_is_set_tells_the_same_session_again(tmp_path: Path) -> None:
    folder = str(tiny_models.random_folder(tmp_path / "random", eos_token_id=None, bos_token_id=None))
    stories = []
    for _ in range(2):
        wild = Talk(folder, max_tokens=20, seed=5)
        for line in ("Once", "", "/again"):
            wild(line)
        stories.append((wild.story, [told.seed for told in story_history.recent(3)]))
        wild.loaded.close()
    assert stories[0] == stories[1]
    assert stories[0][1] == [7, 6, 5]


def test_a_prompt_that_does_not_fit_is_one_line_and_changes_nothing(talk: Talk) -> None:
    talk("Once")
    answer = talk("x" * 5000)
    assert "tokens long" in answer
    assert answer.count("\n") <= 2
    assert talk.story == "Once a f"


def test_ctrl_c_stops_the_telling_and_what_was_told_stays(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = talk.loaded.engine
    whole = engine.stream

    def stopped(prompt: str, sample: SamplingParams) -> object:
        pieces = whole(prompt, replace(sample, stop=("!",)))  # so that each token comes by itself
        yield next(pieces)
        yield next(pieces)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "stream", stopped)
    assert talk("Once") == "Once a\n"
    assert talk.story == "Once a"
    kept = story_history.recent(1)[0]
    assert (kept.text, kept.tokens, kept.finished) == (" a", 2, False)


# --- changing, showing, saving ----------------------------------------------------------------------------------------


def test_the_story_is_changed_in_the_reader_s_editor(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/fox/cat/")
    talk("Once a fox")
    talk("/edit")
    assert talk.story == "Once a cat ran"
    assert talk("/edit") == "nothing was changed\n"
    talk("/undo")
    assert talk.story == "Once a fox ran"
    monkeypatch.setenv("VISUAL", "false")
    assert talk("/edit") == "false ended with status 1: the story is as it was\n"
    monkeypatch.setenv("VISUAL", "no-such-editor")
    assert talk("/edit").startswith("no-such-editor does not start: no such file")
    assert talk.story == "Once a fox ran"


def test_show_shows_the_whole_story_and_what_told_it(talk: Talk) -> None:
    assert talk("/show") == "the page is empty: type how a story begins\n"
    talk("Once")
    talk("")
    whole, signed = talk("/show").split("\n", 1)
    kept = story_history.recent(1)[0]
    assert whole == "Once a fox r"
    assert f"seed {kept.seed}, 4 tokens" in " ".join(signed.split())
    assert kept.id in signed


def test_a_story_is_saved_once_and_over_another_only_when_told_to(talk: Talk) -> None:
    assert talk("/save fox.txt") == "there is no story to save yet: type how one begins\n"
    talk("Once \x1b")
    assert talk("/save my fox.txt") == "saved to my fox.txt\n"
    assert Path("my fox.txt").read_text() == "Once \x1b fox\n"
    talk("A")
    assert talk("/save my fox.txt") == "my fox.txt is there already: /save! my fox.txt writes over it\n"
    assert Path("my fox.txt").read_text() == "Once \x1b fox\n"
    assert talk("/save! my fox.txt") == "saved to my fox.txt\n"
    assert Path("my fox.txt").read_text() == "Ance \n"
    assert talk("/save no/where.txt").startswith("no/where.txt cannot be written: no such file or directory")
    assert talk("/save \x00").startswith("\u2400 cannot be written")
    assert talk("/save") == "there is no file name: /save FILE\n"


# --- the shelf --------------------------------------------------------------------------------------------------------


def test_every_telling_is_kept_and_can_be_told_again(wild: Talk) -> None:
    wild("Once")
    wild("/set temperature 0.3")
    wild("")
    more, first = story_history.recent(2)
    assert (first.prompt, first.goes_on, first.sample.temperature) == ("Once", False, 0.8)
    assert (more.prompt, more.goes_on, more.sample.temperature) == (first.whole, True, 0.3)
    wild("A dog")
    wild(f"/again {more.id}")
    assert wild.story == more.whole
    assert story_history.recent(1)[0].text == more.text
    assert wild("/again xxxx") == "there is no story xxxx: storyteller stories lists them\n"


def test_history_lists_what_was_told_the_newest_last(talk: Talk) -> None:
    assert talk("/history") == "no story is kept yet\n"
    talk("Once")
    talk("A dog\x1b")
    answer = talk("/hist")
    assert answer.index("Once a f") < answer.index("A dog\u241b")
    assert "\x1b" not in answer
    assert talk("/history cat") == "no kept story has that in it\n"
    assert "Once a f" not in talk("/history dog")


# --- settings, models, commands ---------------------------------------------------------------------------------------


def test_settings_are_set_by_the_beginning_of_their_name(talk: Talk) -> None:
    assert talk("/set max_tokens 2") == "max_tokens is now 2\n"
    assert talk("Once") == "Once a\n"
    assert talk("/set top-k=40") == "top_k is now 40\n"
    assert talk("/set temp 0.5") == "temperature is now 0.5\n"
    assert talk("/set stop = e. \x1b") == "stop is now 'e. \\x1b'\n"
    assert talk("/set stop none") == "stop is now none\n"
    assert talk("/set seed 3") == "seed is now 3\n"
    assert talk("/set seed none") == "seed is now none\n"
    shown = dict(line.split(maxsplit=1) for line in talk("/set").splitlines())
    assert (shown["top_k"], shown["temperature"], shown["seed"], shown["stop"]) == ("40", "0.5", "none", "none")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/set temprature 3", "there is no setting temprature: did you mean temperature?"),
        ("/set top 3", "top could be top_k, top_p: give more of it"),
        ("/set temperature hot", "invalid value hot for temperature: expected a number"),
        ("/set temperature -1", "invalid value -1 for temperature: expected 0 (greedy) to 100"),
        ("/set top_k", "top_k is 100: /set top_k VALUE changes it"),
        ("/s", "/s could be /show, /set, /save, /save!: give more of it"),
        ("/agian", "there is no command /agian: did you mean /again?"),
        ("/model l", "there is no run l: no runs yet in"),
    ],
)
def test_what_is_not_known_is_answered_with_what_is_near(talk: Talk, line: str, answer: str) -> None:
    assert " ".join(talk(line).split()).startswith(answer)


def test_a_line_with_two_slashes_begins_a_story_with_one(talk: Talk) -> None:
    assert talk("//x") == "/xce a\n"


def test_help_names_every_command_at_any_width(tmp_path: Path) -> None:
    model = str(tiny_models.script_folder(tmp_path / "script", TALE))
    for columns in (40, 80, 200):
        talk = Talk(model, columns)
        answer = talk("/help")
        assert all(f"/{command.name}" in answer for command in COMMANDS)
        assert max(map(len, answer.splitlines())) < columns
        talk.loaded.close()


def test_another_model_is_taken_and_the_story_goes_on(talk: Talk, tmp_path: Path) -> None:
    talk("Once")
    other = tiny_models.script_folder(tmp_path / "other", "." * 30)
    assert " ".join(talk(f"/model {other}").split()).startswith(f"model: {other};")
    assert talk("") == "....\n"
    assert talk.story == "Once a f...."
    assert talk("/model nowhere").startswith("there is no run nowhere")
    assert talk("") == "....\n"


def test_a_run_is_followed_to_its_newer_checkpoints_and_a_step_is_not() -> None:
    folder = make_run(Path("runs").resolve(), "fox")
    sealed_script(folder, 7, "." * 60)
    run, step = Talk("fox"), Talk("fox@7")
    for talk in (run, step):
        assert talk("Once") == "Once....\n"
    sealed_script(folder, 9, "!" * 60)
    assert run("") == "now generating with fox@9\n!!!!\n"
    assert step("") == "fox@9 is newer: /model fox\n....\n"
    assert step("") == "....\n"
    assert step("/model fox").startswith("model: fox@9, and its newer checkpoints")
    models = run("/models")
    assert "@9, @7" in models and "starter" in models
    assert set(run.session.model_names()) == {"fox", "fox@7", "fox@9", "fox@best", "starter"}
    run.loaded.close()
    step.loaded.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from([f"/{c.name}" for c in COMMANDS[:3]])), max_size=4))
def test_no_line_breaks_the_session_or_reaches_the_terminal_raw(talk: Talk, lines: list[str]) -> None:
    before = talk.shown.tell()
    for line in lines:
        if not line.startswith(("/e", "/b", "/q", "/save")):
            talk.session.answer(line)
    shown = talk.shown.getvalue()[before:]
    assert not [
        c for c in shown if c not in "\n\t" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\ufeff")
    ]


# --- at a terminal ----------------------------------------------------------------------------------------------------


def begun(tmp_path: Path, *words: str) -> tuple[str, ...]:
    return ("tell", "--model", str(tiny_models.script_folder(tmp_path / "s", TALE)), "--max-tokens", "4", *words)


def finish(shown: Terminal) -> None:
    shown.say("/bye\r")
    assert shown.finish() == 0
    assert b"Traceback" not in shown.seen


def test_a_session_at_a_terminal_tells_completes_pastes_and_remembers(tmp_path: Path) -> None:
    with at_terminal(*begun(tmp_path)) as shown:
        shown.ready()
        shown.ask("Once", "Once a f\r\n")
        shown.ask("", "ox r\r\n")
        shown.say("/sho\t")
        shown.until("/show")
        shown.ask("", "Once a fox r")
        shown.say("\x1b[200~one\ntwo\x1b[201~\r")
        shown.until("\none\r\ntwofox\r\n")
        shown.ready()
        shown.say("abc\x03")
        shown.ready()
        finish(shown)
    with at_terminal(*begun(tmp_path)) as shown:
        shown.ready()
        time.sleep(0.5)  # the history is read while the first line is typed
        shown.say("\x1b[A\x1b[A")  # up, past /bye, to what was pasted
        shown.until("two")
        shown.say("\x03")
        shown.ready()
        shown.say("\x04")
        assert shown.finish() == 0
    assert story_history.recent(1)[0].prompt == "one\ntwo"


def test_a_dumb_terminal_has_the_same_session(tmp_path: Path) -> None:
    with at_terminal(*begun(tmp_path), TERM="dumb") as shown:
        shown.until(">")
        shown.say("Once\r")
        shown.until("Once a f\r\n")
        shown.until(">")
        shown.say("/show\r")
        shown.until("Once a f\r\n")
        shown.until(">")
        time.sleep(0.5)  # Python's `input` misses a Ctrl-C in the moment between showing its prompt and waiting
        shown.say("\x03")
        shown.until(">")
        shown.say("\x04")
        assert shown.finish() == 0
    assert b"\x1b" not in shown.seen


def test_ctrl_c_at_a_terminal_stops_the_sentence_and_not_the_session(tmp_path: Path) -> None:
    endless = tiny_models.script_folder(tmp_path / "script", ". " * 32)
    with at_terminal("tell", "--model", str(endless), "--max-tokens", "1000000") as shown:
        shown.ready()
        shown.say("Once\r")
        shown.until(". . . .")
        shown.say("\x03")
        shown.ready()
        finish(shown)
    kept = story_history.recent(1)[0]
    assert kept.text and not kept.finished


def test_a_home_that_cannot_be_written_costs_nothing_but_the_history(tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    with at_terminal(*begun(tmp_path), XDG_DATA_HOME=str(nowhere)) as shown:
        shown.ready()
        shown.ask("Once", "Once a f\r\n")
        shown.ask("Once", "Once a f\r\n")
        finish(shown)
    assert shown.seen.count(b"the story is not kept") == 1
