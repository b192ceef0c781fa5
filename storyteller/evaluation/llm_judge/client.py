"""A judge that is asked over the network: any address that speaks OpenAI's chat completions.

Nothing is sent anywhere unless a `Judge` is made and asked. Each story is sent once: answers are kept in the user's
cache folder, so that a card which was interrupted goes on, and one that is made again costs nothing.
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
from typing import Any, Protocol

from storyteller.errors import JudgeError, UsageError
from storyteller.evaluation.llm_judge import rubric
from storyteller.evaluation.llm_judge.rubric import Grades
from storyteller.system.files import read_regular, write_json
from storyteller.text import safe_line

KEY_VARIABLE = "STORYTELLER_JUDGE_KEY"
"""The environment variable with the key; it goes into the request's header, and nowhere else."""
_PARALLEL = 4
"""Stories that are being graded at a time."""
_MOST_ANSWER_BYTES = 1 << 20
_MOST_REDIRECTS = 3
_LONGEST_PAUSE_SECONDS = 60.0
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses that may be others a moment later."""
_MOST_TOKENS = 400


class JudgedStory(Protocol):
    """A story to be graded: `measures.Story` is one."""

    @property
    def prompt(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def ended(self) -> bool: ...


@dataclass(frozen=True)
class JudgeMarks:
    """What came of asking about several stories."""

    grades: tuple[Grades | None, ...]
    """In the order of the stories; None where there is none."""
    unreadable: int
    """Stories about which the judge said nothing that could be read."""
    sent: int
    """Requests that went out; those answered from the cache are not among them."""
    problem: str = ""
    """Why the rest was not asked about; empty where all was."""


class _Unreadable(Exception):
    """An answer that is none."""


class _Passing(Exception):
    """A failure that may be over in a moment."""

    def __init__(self, what: str, after_seconds: float = 0.0) -> None:
        super().__init__(what)
        self.after_seconds = after_seconds


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Every redirect is an error here; `Judge` decides what becomes of it."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Judge:
    """One model at one address."""

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
        """`address`: what comes before `/chat/completions`, such as `http://127.0.0.1:8000/v1`.

        `key`: None takes it from the environment; empty is none. `cache`: a folder of answers, by default one in the
        user's cache. A request that fails is made again, `attempts` times in all, after pauses that double from
        `pause_seconds`; one may take `timeout_seconds`. Raises UsageError.
        """
        self._url = _checked(address)
        if not model.strip():
            raise UsageError("a judge wants --judge-model", "name the model as its server does")
        self.address, self.model = address, model
        self.host = self._url.netloc
        """Whom stories are sent to."""
        self._key = os.environ.get(KEY_VARIABLE, "") if key is None else key
        local = _is_local(self._url.hostname or "")
        _check_key(self._key, clear=self._url.scheme == "http" and not local)
        self._cache = cache if cache is not None else cache_folder()
        self._attempts, self._pause_seconds, self._timeout_seconds = attempts, pause_seconds, timeout_seconds
        # What is on this machine is not asked for through a proxy elsewhere.
        handlers = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(_NoRedirect, *handlers)
        self._stopped = threading.Event()
        self._sent = 0
        self._counting = threading.Lock()

    # --- many stories -------------------------------------------------------------------------------------------------

    def grade_all(
        self, stories: Sequence[JudgedStory], say: Callable[[int], None] = lambda _: None, parallel: int = _PARALLEL
    ) -> JudgeMarks:
        """Grades of the stories, some asked for at a time; `say` hears how many are done.

        A judge that refuses, or does not answer any more, ends it: `problem` says why, and what was graded is kept.
        Ctrl-C is raised at once, whatever is still under way.
        """
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
                except BaseException as error:  # noqa: BLE001  judged below, by the one who waits
                    self._stopped.set()  # nothing more is sent to one who refuses
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
                say(done)
        finally:
            self._stopped.set()
        return JudgeMarks(tuple(grades), unreadable, self._sent - sent_before, problem)

    def grade(self, story: JudgedStory) -> Grades | None:
        """A story's grades, from the cache or the judge; None where every answer was unreadable. Raises JudgeError."""
        body = json.dumps(
            {
                "model": self.model,
                "messages": rubric.messages(story.prompt, story.text, story.ended),
                "temperature": 0,
                "max_tokens": _MOST_TOKENS,
            }
        ).encode("ascii")
        digest = hashlib.sha256(self.address.encode("utf-8", "replace") + b"\0" + body).hexdigest()
        kept = self._cache / f"{digest}.json"
        if (known := _kept(kept)) is not None:
            return known
        grades = self._asked(body)
        if grades is not None:
            # A cache that cannot be written costs asking again, and nothing else.
            with contextlib.suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_json(kept, grades.to_json())
        return grades

    # --- one request --------------------------------------------------------------------------------------------------

    def _asked(self, body: bytes) -> Grades | None:
        pause = self._pause_seconds
        for attempt in range(self._attempts):
            after_seconds = 0.0
            try:
                return _read(self._post(body))
            except _Unreadable:
                if attempt + 1 == self._attempts:
                    return None
            except _Passing as failure:
                if attempt + 1 == self._attempts:
                    raise JudgeError(
                        f"the judge at {self.host} does not answer ({failure})",
                        "the same command goes on where this one ended",
                    ) from failure
                after_seconds = failure.after_seconds
            if self._stopped.wait(min(max(pause, after_seconds), _LONGEST_PAUSE_SECONDS)):
                raise JudgeError("stopped", "the same command goes on where this one ended")
            pause *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _post(self, body: bytes) -> bytes:
        """The answer's bytes, within the time limit, however slowly a server hands them out.

        On a thread of its own, which is left behind where the time is up: no timeout of a socket bounds the whole.
        """
        with self._counting:
            self._sent += 1
        answers: queue.Queue[bytes | BaseException] = queue.Queue()

        def fetch() -> None:
            try:
                answers.put(self._fetch(body))
            except BaseException as error:  # noqa: BLE001  raised below
                answers.put(error)

        threading.Thread(target=fetch, name="judge-request", daemon=True).start()
        try:
            answer = answers.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise _Passing(f"nothing whole in {self._timeout_seconds:.0f} s") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _fetch(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "storyteller"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = urllib.parse.urlunsplit(self._url)
        for _ in range(_MOST_REDIRECTS + 1):
            request = urllib.request.Request(url, data=body, headers=headers, method="POST")
            try:
                with self._opener.open(request, timeout=self._timeout_seconds) as response:
                    return bytes(response.read(_MOST_ANSWER_BYTES + 1))
            except urllib.error.HTTPError as error:
                with error:
                    if 300 <= error.code < 400:
                        url = self._followed(url, error)
                        continue
                    raise self._refusal(error) from None
            except urllib.error.URLError as error:
                raise self._unreached(error.reason) from error
            except (OSError, http.client.HTTPException) as error:
                raise self._unreached(error) from error
        raise JudgeError(f"the judge at {self.host} redirects without end", "look at --judge")

    def _followed(self, url: str, error: urllib.error.HTTPError) -> str:
        """Where a redirect leads: on the same host, and for a repeated POST, or nowhere."""
        try:
            target = urllib.parse.urlsplit(urllib.parse.urljoin(url, error.headers.get("Location") or ""))
            same = (target.scheme, target.hostname, _port(target)) == (
                self._url.scheme,
                self._url.hostname,
                _port(self._url),
            )
        except ValueError:
            same = False
        if not same or error.code not in (307, 308):
            raise JudgeError(
                f"the judge at {self.host} redirects elsewhere, which is not followed", "give --judge its own address"
            )
        return urllib.parse.urlunsplit(target)

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        said = self._said(error)
        if error.code in _PASSING:
            return _Passing(f"HTTP {error.code}{said}", _seconds(error.headers.get("Retry-After")))
        remedy = f"look at {KEY_VARIABLE}" if error.code in (401, 403) else "look at --judge and --judge-model"
        return JudgeError(f"the judge at {self.host} refuses: HTTP {error.code}{said}", remedy)

    def _said(self, error: urllib.error.HTTPError) -> str:
        """The server's own words about an error, in a few; they may repeat the key, which is left out."""
        try:
            said = error.read(10_000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
            said = str(json.loads(said)["error"]["message"])
        words = " ".join(self._without_key(said).split())
        return f" ({safe_line(words, 120)})" if words else ""

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _unreached(self, reason: object) -> Exception:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return JudgeError(
                f"the certificate of {self.host} cannot be trusted",
                "look at --judge, or at this machine's certificates",
            )
        if isinstance(reason, TimeoutError):
            return _Passing(f"no answer in {self._timeout_seconds:.0f} s")
        return _Passing(safe_line(self._without_key(str(reason)) or type(reason).__name__, 100))


def cache_folder() -> Path:
    """Where answers are kept, one file each."""
    import platformdirs

    return platformdirs.user_cache_path("storyteller", appauthor=False) / "judge"


def _checked(address: str) -> urllib.parse.SplitResult:
    """The address that is posted to. Raises UsageError; no part of an address that may hold a secret is shown."""
    wants = "it wants an address such as http://127.0.0.1:8000/v1"
    try:
        url = urllib.parse.urlsplit(address.strip())
        sound = url.scheme in ("http", "https") and bool(url.hostname) and _port(url) > 0
    except ValueError:
        sound = False
    if not sound or any(ord(letter) <= 0x20 or ord(letter) >= 0x7F for letter in address.strip()):
        raise UsageError("--judge is off", wants)
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise UsageError("--judge has more in it than an address", f"{wants}; the key comes from {KEY_VARIABLE}")
    path = url.path.rstrip("/")
    return url._replace(path=path if path.endswith("/chat/completions") else f"{path}/chat/completions")


def _check_key(key: str, clear: bool) -> None:
    if not all(0x21 <= ord(letter) < 0x7F for letter in key):
        raise UsageError(f"{KEY_VARIABLE} holds what no key has", "set it to the key alone, without spaces")
    if key and clear:
        raise UsageError(
            f"{KEY_VARIABLE} would be sent unencrypted to another machine", "give --judge an https address, or unset it"
        )


def _port(url: urllib.parse.SplitResult) -> int:
    return url.port if url.port is not None else {"http": 80, "https": 443}.get(url.scheme, 0)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _seconds(retry_after: str | None) -> float:
    """What a Retry-After in seconds says; a date is not looked at."""
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() and len(retry_after) < 6 else 0.0


def _read(answer: bytes) -> Grades:
    """The grades in a chat completion. Raises _Unreadable."""
    try:
        if len(answer) > _MOST_ANSWER_BYTES:
            raise ValueError("the answer is too long")
        content = json.loads(answer.decode("utf-8"))["choices"][0]["message"]["content"]
        if not isinstance(content, str):
            raise ValueError("there is no text in the answer")
        return rubric.parse(content)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _Unreadable from error


def _kept(path: Path) -> Grades | None:
    """Grades in the cache; None where there are none, or what is there is broken."""
    try:
        return rubric.parse(read_regular(path).decode("utf-8"))
    except (OSError, ValueError):
        return None
