"""Client of an LLM judge: any server with OpenAI's chat completions API.

Protocol: one POST request per story, answered by a completion that contains four grades (`rubric`). Unreadable answers
and temporary failures are retried with exponential backoff; a refusal ends the judging. Grades are cached in the user's
cache folder by the hash of address and request, so that an interrupted or repeated card sends no story twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import json
import os
import queue
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from storyteller.errors import JudgeError, UsageError
from storyteller.evaluation.llm_judge import rubric
from storyteller.evaluation.llm_judge.rubric import Grades
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from storyteller.system.files import read_regular, write_json
from storyteller.system.timeouts import call_with_timeout
from storyteller.text import safe_line

KEY_VARIABLE = "STORYTELLER_JUDGE_KEY"  # the API key, which is only ever put into the request's header
_MAX_ANSWER_BYTES = 1 << 20
_MAX_REDIRECTS = 3
_MAX_PAUSE_SECONDS = 60.0
_RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # HTTP statuses of temporary failures
_CONTINUE = "run the same command again to continue"


@dataclass(frozen=True)
class JudgeMarks:
    """The judge's marks for several stories."""

    grades: tuple[Grades | None, ...]  # in the order of the stories; None for stories without grades
    unreadable: int  # stories for which no answer could be parsed
    sent: int  # requests sent; answers from the cache are not counted
    problem: str = ""  # why the remaining stories were not graded; empty if all were


class _TemporaryFailure(Exception):
    """A failure that is worth a retry, after `after_seconds` at the earliest."""

    def __init__(self, reason: str, after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Turns redirects into HTTPErrors, which `Judge` handles."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Judge:
    """A judge model on a server."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        key: str | None = None,
        cache: Path | None = None,
        attempts: int = 5,
        pause_seconds: float = 1.0,
        timeout_seconds: float = 120.0,
    ) -> None:
        """Validates the settings; raises UsageError.

        address: the API's base URL, such as `http://127.0.0.1:8000/v1`.
        key: the API key; by default from the environment, empty for none.
        cache: folder of cached grades; by default in the user's cache folder.
        attempts: requests per story, with pauses in between that double from `pause_seconds`.
        timeout_seconds: limit of one request.
        """
        self._url = _checked(address)
        if not model.strip():
            raise UsageError("--judge needs --judge-model", "give the model's name on the server")
        self.address, self.model = address, model
        self.host = self._url.netloc  # the server to which stories are sent
        self._key = os.environ.get(KEY_VARIABLE, "") if key is None else key
        local = _is_local(self._url.hostname or "")
        _check_key(self._key, clear=self._url.scheme == "http" and not local)
        self._cache = cache or platformdirs.user_cache_path("storyteller", appauthor=False) / "judge"
        self._attempts, self._pause_seconds, self._timeout_seconds = attempts, pause_seconds, timeout_seconds
        # Requests to this machine must not go through a proxy.
        handlers = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(_NoRedirect, *handlers)
        self._stopped = threading.Event()
        self._sent = 0
        self._counting = threading.Lock()

    def grade_all(
        self,
        stories: Sequence[StoryCompletion],
        on_progress: Callable[[int], None] = lambda _: None,
        parallel: int = 4,
    ) -> JudgeMarks:
        """Grades stories, `parallel` at a time; `on_progress` is called with the number of finished ones.

        Stops early if the judge refuses or no longer answers, with the reason in `problem` and the grades so far.
        KeyboardInterrupt is raised at once, without waiting for open requests.
        """
        # Daemon threads take stories off `waiting` and put (number, grades or error) on `answers`. Only this thread
        # waits, on a queue that Ctrl-C can interrupt.
        waiting = deque(enumerate(stories))
        answers: queue.Queue[tuple[int, Grades | BaseException | None]] = queue.Queue()
        self._stopped.clear()
        sent_before = self._sent

        def work() -> None:
            while not self._stopped.is_set():
                try:
                    number, story = waiting.popleft()
                except IndexError:
                    return
                try:
                    answers.put((number, self.grade(story)))
                except BaseException as error:  # noqa: BLE001  handled by the waiting thread
                    self._stopped.set()  # send no further stories
                    answers.put((number, error))

        for number in range(min(parallel, len(stories))):
            threading.Thread(target=work, name=f"judge-{number}", daemon=True).start()
        grades: list[Grades | None] = [None] * len(stories)
        unreadable, problem = 0, ""
        try:
            for done in range(1, len(stories) + 1):
                number, answer = answers.get()
                if isinstance(answer, JudgeError):
                    problem = str(answer)
                    break
                if isinstance(answer, BaseException):
                    raise answer
                grades[number] = answer
                unreadable += answer is None
                on_progress(done)
        finally:
            self._stopped.set()
        return JudgeMarks(tuple(grades), unreadable, self._sent - sent_before, problem)

    def grade(self, story: StoryCompletion) -> Grades | None:
        """Grades a story, from the cache if possible; None if no answer could be parsed. Raises JudgeError."""
        body = json.dumps(
            {
                "model": self.model,
                "messages": rubric.messages(story.prompt, story.text, story.ended),
                "temperature": 0,
                "max_tokens": 400,
            }
        ).encode("ascii")
        digest = hashlib.sha256(self.address.encode("utf-8", "replace") + b"\0" + body).hexdigest()
        cached = self._cache / f"{digest}.json"
        with contextlib.suppress(OSError, ValueError):  # there are no cached grades, or the file is damaged
            return rubric.parse(read_regular(cached).decode("utf-8"))
        grades = self._request_grades(body)
        if grades is not None:
            # Without a writable cache, stories are sent again the next time.
            with contextlib.suppress(OSError):
                cached.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_json(cached, grades.to_json())
        return grades

    def _request_grades(self, body: bytes) -> Grades | None:
        for attempt in range(self._attempts):
            is_last, after_seconds = attempt + 1 == self._attempts, 0.0
            try:
                grades = _parse_answer(self._post(body))
                if grades is not None or is_last:
                    return grades
            except _TemporaryFailure as failure:
                if is_last:
                    raise JudgeError(f"the judge at {self.host} does not answer ({failure})", _CONTINUE) from failure
                after_seconds = failure.after_seconds
            pause_seconds = max(self._pause_seconds * 2**attempt, after_seconds)
            if self._stopped.wait(min(pause_seconds, _MAX_PAUSE_SECONDS)):
                raise JudgeError("stopped", _CONTINUE)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _post(self, body: bytes) -> bytes:
        """Sends a request and returns the response body within the time limit.

        A socket's timeout would not suffice: it limits each read, but not the whole response of a server that sends a
        byte at a time.
        """
        with self._counting:
            self._sent += 1
        try:
            return call_with_timeout(self._timeout_seconds, lambda: self._fetch(body))
        except TimeoutError:
            raise _TemporaryFailure(f"no complete response in {self._timeout_seconds:.0f} s") from None

    def _fetch(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "storyteller"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = urllib.parse.urlunsplit(self._url)
        for _ in range(_MAX_REDIRECTS + 1):
            request = urllib.request.Request(url, data=body, headers=headers, method="POST")
            try:
                with self._opener.open(request, timeout=self._timeout_seconds) as response:
                    return bytes(response.read(_MAX_ANSWER_BYTES + 1))
            except urllib.error.HTTPError as error:
                with error:
                    if 300 <= error.code < 400:
                        url = self._redirect_target(url, error)
                        continue
                    raise self._refusal(error) from None
            except (OSError, http.client.HTTPException) as error:
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                raise self._connection_error(reason) from error
        raise JudgeError(f"the judge at {self.host} redirects too often", "check --judge")

    def _redirect_target(self, url: str, error: urllib.error.HTTPError) -> str:
        """The target of a redirect. Raises JudgeError unless it is on the same host and preserves the POST request.

        Following others would send the stories and the key to a host that the user has not named.
        """
        try:
            target = urllib.parse.urlsplit(urllib.parse.urljoin(url, error.headers.get("Location") or ""))
            is_followed = error.code in (307, 308) and _origin(target) == _origin(self._url)
        except ValueError:
            is_followed = False
        if not is_followed:
            raise JudgeError(
                f"the judge at {self.host} redirects to another host, which is not followed", "correct --judge"
            )
        return urllib.parse.urlunsplit(target)

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        message = self._server_message(error)
        if error.code in _RETRYABLE:
            seconds = error.headers.get("Retry-After") or ""  # or a date, which is ignored
            after_seconds = float(seconds) if seconds.isdecimal() and len(seconds) < 6 else 0.0
            return _TemporaryFailure(f"HTTP {error.code}{message}", after_seconds)
        remedy = f"check {KEY_VARIABLE}" if error.code in (401, 403) else "check --judge and --judge-model"
        return JudgeError(f"the judge at {self.host} refuses: HTTP {error.code}{message}", remedy)

    def _server_message(self, error: urllib.error.HTTPError) -> str:
        """The server's error message, shortened, without the key (which servers may repeat)."""
        try:
            message = error.read(10_000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
            message = str(json.loads(message)["error"]["message"])
        words = " ".join(self._without_key(message).split())
        return f" ({safe_line(words, 120)})" if words else ""

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _connection_error(self, reason: object) -> Exception:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return JudgeError(
                f"the certificate of {self.host} is not trusted", "check --judge and this machine's certificates"
            )
        if isinstance(reason, TimeoutError):
            return _TemporaryFailure(f"no answer in {self._timeout_seconds:.0f} s")
        return _TemporaryFailure(safe_line(self._without_key(str(reason)) or type(reason).__name__, 100))


def _checked(address: str) -> urllib.parse.SplitResult:
    """Returns the URL for requests. Raises UsageError, without repeating an address that may contain a secret."""
    expected = "a URL such as http://127.0.0.1:8000/v1"
    try:
        url = urllib.parse.urlsplit(address.strip())
        valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid or any(ord(letter) <= 0x20 or ord(letter) >= 0x7F for letter in address.strip()):
        raise UsageError("invalid value for --judge", f"expected {expected}")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise UsageError(
            "--judge has user, password, query or fragment", f"expected {expected}; the key is read from {KEY_VARIABLE}"
        )
    path = url.path.rstrip("/")
    return url._replace(path=path if path.endswith("/chat/completions") else f"{path}/chat/completions")


def _check_key(key: str, clear: bool) -> None:
    if not all(0x21 <= ord(letter) < 0x7F for letter in key):
        raise UsageError(f"{KEY_VARIABLE} contains characters that no key has", "set it to the key without spaces")
    if key and clear:
        raise UsageError(
            f"{KEY_VARIABLE} would be sent unencrypted to another machine", "use an https address, or unset it"
        )


def _origin(url: urllib.parse.SplitResult) -> tuple[str, str | None, int | None]:
    """Scheme, host and port. Raises ValueError for an invalid port."""
    return url.scheme, url.hostname, {"http": 80, "https": 443}.get(url.scheme) if url.port is None else url.port


def _is_local(host: str) -> bool:
    with contextlib.suppress(ValueError):  # not an IP address
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _parse_answer(answer: bytes) -> Grades | None:
    """Parses the grades in a chat completion; None if there are none."""
    if len(answer) > _MAX_ANSWER_BYTES:
        return None
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, RecursionError):
        content = json.loads(answer.decode("utf-8"))["choices"][0]["message"]["content"]
        return rubric.parse(content) if isinstance(content, str) else None
    return None
