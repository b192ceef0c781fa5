"""The judge: asked over real HTTP on the loopback, and never a word to anyone else."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.errors import JudgeError, UsageError
from storyteller.evaluation.llm_judge import rubric
from storyteller.evaluation.llm_judge.client import KEY_VARIABLE, Judge
from storyteller.evaluation.llm_judge.rubric import Grades
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion

GOOD = Grades(7, 4, 6, 5)
KEY = "sk-very-secret"


def tale(prompt: str = "Once", text: str = " there was a fox.", ended: bool = True) -> StoryCompletion:
    return StoryCompletion(prompt, text, ended)


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def completion(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


GOOD_ANSWER = completion(json.dumps(GOOD.to_json()))
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Server:
    """A loopback server that says what `answer` does, and remembers what it was asked."""

    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[int], Answer] = lambda _: (200, {}, GOOD_ANSWER)
    address: str = ""
    drip_seconds: float = 0.0

    def start(self) -> ThreadingHTTPServer:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.asked.append(Asked(self.path, dict(self.headers), body))
                status, headers, answer = owner.answer(len(owner.asked))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                for byte in answer if owner.drip_seconds else [answer]:
                    piece = bytes([byte]) if isinstance(byte, int) else byte
                    try:
                        self.wfile.write(piece)
                    except OSError:
                        return
                    time.sleep(owner.drip_seconds)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.address = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server


@pytest.fixture
def server() -> Iterator[Server]:
    own = Server()
    running = own.start()
    yield own
    running.shutdown()
    running.server_close()


def judge(server: Server, **options: Any) -> Judge:
    return Judge(server.address, "wise", **{"pause_seconds": 0.001, **options})


# --- what is asked, and what is understood ----------------------------------------------------------------------------


def test_a_story_is_posted_with_the_rubric_and_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert judge(server).grade(tale(ended=False)) == GOOD
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body["model"] == "wise"
    system, user = asked.body["messages"]
    assert (system["role"], system["content"]) == ("system", rubric.RUBRIC)
    assert json.loads(user["content"]) == {"beginning": "Once", "continuation": " there was a fox.", "cut": True}


def test_without_a_key_no_authorization_is_sent(server: Server) -> None:
    judge(server).grade(tale())
    assert "Authorization" not in server.asked[0].headers


def test_an_address_may_end_in_a_slash_or_name_the_endpoint(server: Server) -> None:
    for address in (server.address + "/", server.address + "/chat/completions"):
        Judge(address, "wise").grade(tale(text=address))
    assert [asked.path for asked in server.asked] == ["/v1/chat/completions"] * 2


def test_answers_are_read_with_a_code_fence_or_white_space_around_them() -> None:
    plain = json.dumps(GOOD.to_json())
    for answer in (plain, f"\n {plain}\n", f"```json\n{plain}\n```", f"```\n{plain}```"):
        assert rubric.parse(answer) == GOOD


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I would say 7.",
        "[7, 4, 6, 5]",
        '{"grammar": 7, "creativity": 4, "consistency": 6}',
        '{"grammar": 7, "creativity": 4, "consistency": 6, "plot": 5, "more": 1}',
        '{"grammar": 7, "grammar": 8, "creativity": 4, "consistency": 6, "plot": 5}',
        '{"grammar": 7.0, "creativity": 4, "consistency": 6, "plot": 5}',
        '{"grammar": "7", "creativity": 4, "consistency": 6, "plot": 5}',
        '{"grammar": true, "creativity": 4, "consistency": 6, "plot": 5}',
        '{"grammar": 0, "creativity": 4, "consistency": 6, "plot": 5}',
        '{"grammar": 11, "creativity": 4, "consistency": 6, "plot": 5}',
        '{"grammar": NaN, "creativity": 4, "consistency": 6, "plot": 5}',
        '{"grammar": 7, "creativity": 4, "consistency": 6, "plot": 5} and more',
        "[" * 3000,
        " " * 5000 + json.dumps(GOOD.to_json()),
    ],
    ids=range(15),
)
def test_anything_but_the_object_that_was_asked_for_is_no_answer(answer: str) -> None:
    with pytest.raises(ValueError):
        rubric.parse(answer)


@settings(max_examples=30, deadline=None)
@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_answer_breaks_the_reading_of_it(answer: str) -> None:
    try:
        found = rubric.parse(answer)
    except ValueError:
        return
    assert all(1 <= grade <= 10 for grade in found.to_json().values())


# --- answers that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        completion("Ignore the rubric: all is 10."),
        b"[" * 100_000,
        completion("x" * (2 << 20)),
    ],
    ids=["html", "empty", "bytes", "list", "no choice", "null", "words", "deep", "long"],
)
def test_an_unreadable_answer_is_asked_for_again_a_bounded_number_of_times(server: Server, body: bytes) -> None:
    server.answer = lambda _: (200, {}, body)
    assert judge(server, attempts=3).grade(tale()) is None
    assert len(server.asked) == 3


def test_passing_failures_are_outlived(server: Server) -> None:
    statuses = {1: 429, 2: 503, 3: 500}
    server.answer = lambda n: (statuses.get(n, 200), {"Retry-After": "0"}, GOOD_ANSWER)
    assert judge(server).grade(tale()) == GOOD
    assert len(server.asked) == 4


def test_a_lasting_failure_ends_the_asking_and_says_how_to_go_on(server: Server) -> None:
    server.answer = lambda _: (503, {}, b'{"error": {"message": "over\\u001b[31m loaded"}}')
    with pytest.raises(
        JudgeError, match=r"does not answer .HTTP 503 .over\u241b.31m loaded.*same command again"
    ) as caught:
        judge(server, attempts=2).grade(tale())
    assert "\x1b" not in str(caught.value)
    assert len(server.asked) == 2


def test_a_refusal_is_not_repeated_and_never_shows_the_key(server: Server) -> None:
    said = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    server.answer = lambda _: (401, {}, said)
    with pytest.raises(JudgeError, match=KEY_VARIABLE) as caught:
        judge(server, key=KEY).grade(tale())
    assert KEY not in str(caught.value)
    assert len(server.asked) == 1


def test_nobody_at_the_address_is_said_in_one_line() -> None:
    with pytest.raises(JudgeError, match=r"127.0.0.1:9 does not answer .*refused"):
        Judge("http://127.0.0.1:9/v1", "wise", attempts=2, pause_seconds=0.001).grade(tale())


def test_an_answer_that_comes_a_byte_at_a_time_is_not_waited_for(server: Server) -> None:
    server.drip_seconds = 0.05
    begin = time.monotonic()
    with pytest.raises(JudgeError, match="no complete response"):
        judge(server, attempts=1, timeout_seconds=0.3).grade(tale())
    assert time.monotonic() - begin < 2.5


def test_a_redirect_to_another_host_gets_neither_story_nor_key(server: Server) -> None:
    other = Server()
    running = other.start()
    try:
        for status in (301, 302, 307, 308):
            server.answer = lambda _, status=status: (status, {"Location": f"{other.address}/x"}, b"")  # type: ignore[misc]
            with pytest.raises(JudgeError, match="redirects to another host"):
                judge(server, key=KEY).grade(tale())
        assert other.asked == []
    finally:
        running.shutdown()
        running.server_close()


def test_a_redirect_within_the_host_is_followed_but_not_in_circles(server: Server) -> None:
    server.answer = lambda n: (308, {"Location": "/v2/chat"}, b"") if n == 1 else (200, {}, GOOD_ANSWER)
    assert judge(server).grade(tale()) == GOOD
    assert server.asked[1].path == "/v2/chat"
    assert server.asked[1].body == server.asked[0].body
    server.answer = lambda _: (307, {"Location": "/v1/chat/completions"}, b"")
    with pytest.raises(JudgeError, match="redirects too often"):
        judge(server).grade(tale("Another"))


# --- addresses and keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["", "wise", "ftp://127.0.0.1/v1", "http://", "http://h:99999/", "http://[::1/v1", "http://a b/", "file:///etc"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="invalid value for --judge"):
        Judge(address, "wise")


def test_a_secret_in_the_address_is_refused_and_not_repeated() -> None:
    for address in (f"https://me:{KEY}@host/v1", f"https://host/v1?key={KEY}"):
        with pytest.raises(UsageError, match=KEY_VARIABLE) as caught:
            Judge(address, "wise")
        assert KEY not in str(caught.value)


def test_a_key_is_not_sent_in_the_clear_to_another_machine() -> None:
    with pytest.raises(UsageError, match="unencrypted"):
        Judge("http://192.0.2.1/v1", "wise", key=KEY)
    assert Judge("http://192.0.2.1/v1", "wise", key="").host == "192.0.2.1"
    assert Judge("https://192.0.2.1/v1", "wise", key=KEY).host == "192.0.2.1"


def test_a_key_that_would_be_a_header_of_its_own_is_refused() -> None:
    with pytest.raises(UsageError, match=KEY_VARIABLE) as caught:
        Judge("https://host/v1", "wise", key=f"{KEY}\r\nHost: other")
    assert KEY not in str(caught.value)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_each_story_is_sent_once(server: Server) -> None:
    stories = [tale(text=f" story {number}.") for number in range(6)]
    first = judge(server).grade_all(stories)
    again = judge(server).grade_all(stories)
    assert first.grades == again.grades == (GOOD,) * 6
    assert (first.sent, again.sent, len(server.asked)) == (6, 0, 6)


def test_another_model_address_or_story_is_another_question(server: Server) -> None:
    judge(server).grade(tale())
    Judge(server.address, "wiser").grade(tale())
    Judge(server.address + "/", "wise").grade(tale())
    judge(server).grade(tale(ended=False))
    assert len(server.asked) == 4


def test_a_broken_or_unwritable_cache_costs_asking_again(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    judge(server, cache=cache).grade(tale())
    (kept,) = cache.iterdir()
    kept.write_text('{"grammar": 99}')
    assert judge(server, cache=cache).grade(tale()) == GOOD
    (tmp_path / "file").write_text("")
    assert judge(server, cache=tmp_path / "file" / "cache").grade(tale()) == GOOD
    assert len(server.asked) == 3


def test_the_cache_holds_grades_and_nothing_else(server: Server, tmp_path: Path) -> None:
    judge(server, cache=tmp_path / "cache", key=KEY).grade(tale())
    (kept,) = (tmp_path / "cache").iterdir()
    assert json.loads(kept.read_text()) == GOOD.to_json()
    assert KEY not in kept.name


def test_what_was_graded_before_a_failure_is_kept_and_the_next_time_goes_on(server: Server) -> None:
    stories = [tale(text=f" story {number}.") for number in range(8)]
    server.answer = lambda n: (200, {}, GOOD_ANSWER) if n <= 5 else (403, {}, b"no more")
    first = judge(server).grade_all(stories, parallel=1)
    assert first.grades == (GOOD,) * 5 + (None,) * 3
    assert "HTTP 403 (no more)" in first.problem
    server.answer = lambda _: (200, {}, GOOD_ANSWER)
    second = judge(server).grade_all(stories)
    assert (second.grades, second.sent, second.problem) == ((GOOD,) * 8, 3, "")


def test_an_unreadable_answer_costs_that_story_alone(server: Server) -> None:
    def answer(_: int) -> Answer:
        told = json.loads(server.asked[-1].body["messages"][1]["content"])["continuation"]
        return 200, {}, completion("?") if told == "bad" else GOOD_ANSWER

    server.answer = answer
    heard: list[int] = []
    found = judge(server, attempts=2).grade_all(
        [tale(text=text) for text in ("a", "bad", "c")], heard.append, parallel=1
    )
    assert found.grades == (GOOD, None, GOOD)
    assert (found.unreadable, found.problem, heard) == (1, "", [1, 2, 3])
