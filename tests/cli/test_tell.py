"""`storyteller tell` as its user meets it: in a pipe, at a terminal, with what the Hub has, with wrong words."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storyteller.cli.story_output import OutputStream, WrappedWriter
from tests.support import tiny_models
from tests.support.hub_loopback import LoopbackHub
from tests.support.ptys import at_terminal, command, environment


def tell(*words: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
    """One `storyteller tell` in a pipe."""
    text = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        command("tell", *words), input=text, capture_output=True, env=environment(), timeout=120, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def refused(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """The command ended with one line that has each of `words`."""
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.startswith("storyteller: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def script(tmp_path: Path, text: bytes | str, context: int = 64) -> str:
    return str(tiny_models.script_folder(tmp_path / "script", text, context))


# --- in a pipe --------------------------------------------------------------------------------------------------------


def test_a_story_goes_into_a_pipe_as_plain_text(tmp_path: Path) -> None:
    done = tell("Once", "--model", script(tmp_path, "Once there was a fox.\nIt ran."))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Once there was a fox.\nIt ran.\n", "")


def test_json_has_a_story_an_object(tmp_path: Path) -> None:
    model = script(tmp_path, "Once there was a fox.")
    done = tell("Once", "--model", model, "--json", "--seed", "4294967295", "--stop", " fox", "--no-keep")
    story = json.loads(done.stdout)
    assert story.pop("seconds") > 0
    assert story == {
        "text": "Once there was a",
        "prompt": "Once",
        "story": " there was a",
        "tokens": len(" there was a fox"),
        "seed": 4294967295,
        "model": model,
        "finished": False,
    }


@pytest.mark.parametrize("words", [("-",), ()])
def test_a_prompt_comes_from_standard_input(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = tell(*words, "--model", script(tmp_path, "Once more"), stdin="Once\n")
    assert done.stdout == "Once more\n"


def test_control_characters_are_shown_as_pictures(tmp_path: Path) -> None:
    done = tell("a\x1b[31m", "--model", script(tmp_path, b"......\x1b]52;c;eA==\x07\xc2\x9b\r\xe2\x80\xae\x00."))
    assert done.stdout == "a\u241b[31m\u241b]52;c;eA==\u2407\u20399B\u203a\u240d\u2039202E\u203a\u2400.\n"


# --- wrong words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((""), "the prompt is empty"),
        ((" \n\t"), "the prompt is empty"),
        (("-"), "the prompt is empty"),
        (("Once", "--temperature", "-1"), "invalid value -1.0 for --temperature"),
        (("Once", "--top-p", "0"), "invalid value 0.0 for --top-p"),
        (("Once", "--max-tokens", "0"), "invalid value 0 for --max-tokens"),
        (("Once", "--seed", "-1"), "invalid value -1 for --seed"),
        (("Once", "--stop", ""), "--stop"),
        (("Once", "--count", "0"), "--count"),
        (("Once", "--model", ""), "--model"),
        (("x" * 64,), "the prompt is 64 tokens long, the model takes 63"),
    ],
)
def test_wrong_words_are_one_line(tmp_path: Path, words: str | tuple[str, ...], expected: str) -> None:
    model = () if "--model" in words else ("--model", script(tmp_path, "."))
    refused(tell(*((words,) if isinstance(words, str) else words), *model), 2, expected)


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    refused(tell("Once", "--model", "no-such-run"), 1, "no-such-run")
    refused(tell("Once", "--model", str(tmp_path / "nowhere")), 1, "there is no folder")
    refused(tell("Once", "--model", "owner/name"), 1, "the Hub does not answer for owner/name")


def test_a_damaged_model_is_one_line(tmp_path: Path) -> None:
    folder = Path(script(tmp_path, "."))
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    refused(tell("Once", "--model", str(folder)), 1, "model.safetensors is damaged")


# --- at a terminal ----------------------------------------------------------------------------------------------------


def test_a_terminal_shows_whole_words_on_its_lines(tmp_path: Path) -> None:
    text = "Once there was a little fox who liked to run and to jump over big logs in the deep dark wood.\n\nThe end."
    with at_terminal("tell", "Once", "--model", script(tmp_path, text, 128), "--seed", "3") as shown:
        assert shown.finish() == 0
    assert shown.lines[:5] == [
        "Once there was a little fox who liked",
        "to run and to jump over big logs in the",
        "deep dark wood.",
        "",
        "The end.",
    ]
    assert f"seed 3, {len(text) - len('Once')} tokens" in shown.lines[5]


def test_nothing_a_model_says_reaches_the_terminal_raw(tmp_path: Path) -> None:
    evil = bytes(range(32)) + b"\x7f" + "\x9b31m\u202e\u2028\ufeff".encode() + b"\x1b]0;title\x07\x1b[2J."
    model = script(tmp_path, b".." + evil, 128)
    with at_terminal("tell", "a\x1b", "--model", model, "--seed", "3") as shown:
        assert shown.finish() == 0
    text = shown.seen.decode()
    assert {c for c in text if ord(c) < 32 or 0x7F <= ord(c) < 0xA0} <= {"\r", "\n"}
    assert not set("\u202e\u2028\ufeff") & set(text)
    assert "\u241b]0;title\u2407" in text.replace("\r\n", "")


def test_ctrl_c_ends_the_line_and_the_command(tmp_path: Path) -> None:
    folder = tiny_models.random_folder(tmp_path / "model", eos_token_id=None, bos_token_id=None)
    with at_terminal("tell", "Once", "--model", str(folder), "--max-tokens", "1000000") as shown:
        shown.until("Once")
        time.sleep(0.3)
        shown.say("\x03")
        assert shown.finish() == 130
    assert shown.seen.endswith(b"\n")
    assert b"Traceback" not in shown.seen


def test_a_page_breaks_words_longer_than_a_line_and_counts_wide_characters() -> None:
    import io

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    page = WrappedWriter(OutputStream(screen), columns=lambda: 7)
    for piece in ("ab", "c ", "abcdefgh", "ij k\n", "日本語 ", "x\ty"):
        page.write(piece)
    page.end()
    assert screen.getvalue() == "abc\nabcdef\nghij k\n日本語\nx    y\n"


# --- what is paid, and what the Hub has -------------------------------------------------------------------------------


def test_importing_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys, storyteller.cli.tell\n"
        "print({'torch', 'transformers', 'datasets', 'wandb', 'ctranslate2', 'numpy', 'tokenizers', 'huggingface_hub'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "set()\n"


@pytest.mark.slow
def test_a_published_gpt_neo_is_told_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.inference.test_engine import save_neo

    # As on the Hub: the main revision has a pickle alone, the Hub's own conversion has safetensors.
    models = tmp_path / "hub" / "models" / "roneneldan"
    save_neo(models / "TinyStories-1M@refs--pr--3")
    save_neo(models / "TinyStories-1M")
    (models / "TinyStories-1M" / "model.safetensors").rename(models / "TinyStories-1M" / "pytorch_model.bin")
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        words = ("--model", "roneneldan/TinyStories-1M", "--seed", "3", "--max-tokens", "12", "--json")
        done = tell("Once upon a time", *words)
        assert not [request for request in hub.requests if ".bin" in request.path]
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    assert (story["model"], story["seed"], story["prompt"]) == ("roneneldan/TinyStories-1M", 3, "Once upon a time")
    assert 1 <= story["tokens"] <= 12
    assert done.stderr.splitlines() == [
        "storyteller: fetching roneneldan/TinyStories-1M from the Hugging Face Hub",
        "storyteller: roneneldan/TinyStories-1M runs on transformers, which takes some seconds to start",
    ]
