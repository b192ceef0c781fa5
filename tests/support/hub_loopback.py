"""A stand-in for the read side of the Hugging Face Hub, on the loopback, with faults to inject.

    with LoopbackHub(root) as hub:          # root/datasets/OWNER/NAME/..., root/models/OWNER/NAME/...
        hub.fault("503", match="resolve", times=2)
        ...                                 # a client with HF_ENDPOINT=hub.url and HF_HUB_DISABLE_XET=1

A folder `NAME@refs--pr--1` beside `NAME` is that repository at the revision `refs/pr/1`, a pull request by
`hub.author`; every other revision is the main one. Faults: `500`, `503`, `403` and any other status; `429` (with `arg`
as Retry-After); `drop` (the connection closes without an answer); `truncate` (all bytes promised, half of them sent);
`hang` (an answer after `arg` seconds).

From a shell: `python hub_loopback.py ROOT [PORT]`, then `GET /_ctl?mode=503&match=REGEX&times=N&arg=X` for a fault,
`GET /_log` for the requests (one JSON object a line), `GET /_reset` to forget them.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
import urllib.parse
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

MAIN_SHA = "a" * 40
"""The commit that `main` of every repository points to."""

_API = re.compile(r"^/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs|discussions)(?:/(.*))?)?$")
_FILE = re.compile(r"^/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@dataclass(frozen=True)
class Request:
    """One request as it came in, and the fault that it met."""

    time: float
    method: str
    path: str
    range: str | None
    body: str
    fault: str | None


@dataclass
class Fault:
    """What goes wrong, for requests whose `METHOD PATH` matches, and how many times more (-1: without end)."""

    mode: str = "ok"
    match: str = ".*"
    times: int = -1
    arg: str = "0"


class LoopbackHub:
    """The Hub under `url` while its `with` block lasts."""

    def __init__(self, root: Path | str, port: int = 0) -> None:
        self.root = Path(root).resolve()
        self.author = "SFconvertbot"
        self.requests: list[Request] = []
        self._fault = Fault()
        self._lock = threading.Lock()
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault(self, mode: str = "ok", match: str = ".*", times: int = -1, arg: object = 0) -> None:
        """Let the next `times` requests whose `METHOD PATH` matches `match` fail as `mode`; `ok` heals the Hub."""
        with self._lock:
            self._fault = Fault(mode, match, times, str(arg))

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, which then has one time less to come."""
        with self._lock:
            fault = self._fault
            if fault.mode == "ok" or fault.times == 0 or not re.search(fault.match, f"{method} {path}"):
                return None
            fault.times -= 1
            return Fault(**asdict(fault))

    def repository(self, kind: str, name: str, revision: str = "main") -> Path | None:
        """The folder of a repository at a revision, or None where there is none."""
        base = self.root / kind / name
        for variant in base.parent.glob(f"{base.name}@*"):
            if revision in (_revision(variant), _sha(variant)):
                base = variant
                break
        else:
            if revision.startswith("refs/pr/"):
                return None
        base = base.resolve()
        return base if base.is_dir() and self.root in base.parents else None

    def revisions(self, kind: str, name: str) -> list[tuple[str, str]]:
        """Every revision beside main: its ref and its commit."""
        base = self.root / kind / name
        return [(_revision(variant), _sha(variant)) for variant in sorted(base.parent.glob(f"{base.name}@*"))]


def _revision(folder: Path) -> str:
    return folder.name.partition("@")[2].replace("--", "/") or "main"


def _sha(folder: Path) -> str:
    revision = _revision(folder)
    return MAIN_SHA if revision == "main" else hashlib.sha1(revision.encode()).hexdigest()


def _git_oid(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(repository: Path, path: Path) -> dict[str, Any]:
    """A file or folder as the Hub's tree lists it."""
    name = path.relative_to(repository).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": "d" * 40, "size": 0, "path": name}
    return {"type": "file", "oid": _git_oid(path), "size": path.stat().st_size, "path": name}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: LoopbackHub, port: int) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are expected here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]
    server: _Server

    def log_message(self, *_: object) -> None:
        """Nothing is printed: the requests are kept in `hub.requests`."""

    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(address.path), dict(urllib.parse.parse_qsl(address.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path in ("/_ctl", "/_log", "/_reset"):
            self._control(path, query)
            return
        hub = self.server.hub
        fault = hub.take_fault(self.command, path)
        hub.requests.append(
            Request(
                time=round(time.time(), 2),
                method=self.command,
                path=path,
                range=self.headers.get("Range"),
                body=body[:200].decode("latin1"),
                fault=fault.mode if fault else None,
            )
        )
        if fault and self._suffer(fault):
            return
        # Matched before unquoting: a revision may hold slashes, which come quoted.
        if api := _API.match(address.path):
            self._api(api, query, body)
        elif file := _FILE.match(address.path):
            self._file(file, truncate=fault is not None and fault.mode == "truncate")
        else:
            self._missing("RepoNotFound")

    do_HEAD = do_POST = do_GET

    def _control(self, path: str, query: dict[str, str]) -> None:
        hub = self.server.hub
        if path == "/_ctl":
            fault = Fault(**(asdict(Fault()) | query))
            hub.fault(fault.mode, fault.match, int(fault.times), fault.arg)
            self._reply(200, query)
        elif path == "/_log":
            self._reply(200, "\n".join(json.dumps(asdict(request)) for request in hub.requests).encode())
        else:
            hub.requests.clear()
            self._reply(200, {})

    def _suffer(self, fault: Fault) -> bool:
        """Whether the fault was all the answer that there is."""
        if fault.mode.isdigit():
            retry = {"Retry-After": fault.arg} if fault.mode == "429" and fault.arg != "0" else {}
            self._reply(int(fault.mode), {"error": "injected"}, headers=retry)
            return True
        if fault.mode == "drop":
            self.close_connection = True
            self.connection.close()
            return True
        if fault.mode == "hang":
            time.sleep(float(fault.arg))
        return False

    def _api(self, match: re.Match[str], query: dict[str, str], body: bytes) -> None:
        kind, name, verb = (urllib.parse.unquote(match[group] or "") for group in (1, 2, 3))
        quoted_revision, _, folder = (match[4] or "").partition("/")
        if verb == "revision":
            quoted_revision = match[4] or ""
        revision = urllib.parse.unquote(quoted_revision) or "main"
        if self.server.hub.repository(kind, name) is None:
            self._missing("RepoNotFound")
            return
        repository = self.server.hub.repository(kind, name, "main" if verb in ("refs", "discussions") else revision)
        if repository is None:
            self._missing("RevisionNotFound")
        elif verb in ("", "revision"):
            self._reply(200, _description(repository, name))
        elif verb == "refs":
            self._reply(200, self._refs(kind, name))
        elif verb == "discussions":
            self._reply(200, self._discussions(kind, name))
        elif verb == "tree":
            self._tree(repository, urllib.parse.unquote(folder), query)
        else:
            asked = json.loads(body)["paths"] if body[:1] == b"{" else urllib.parse.parse_qs(body.decode()).get("paths")
            paths = [asked] if isinstance(asked, str) else asked or []
            self._reply(200, [_entry(repository, repository / path) for path in paths if (repository / path).exists()])

    def _refs(self, kind: str, name: str) -> dict[str, Any]:
        requests = [
            {"name": revision.removeprefix("refs/"), "ref": revision, "targetCommit": sha}
            for revision, sha in self.server.hub.revisions(kind, name)
        ]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": MAIN_SHA}
        return {"branches": [main], "converts": [], "tags": [], "pullRequests": requests}

    def _discussions(self, kind: str, name: str) -> dict[str, Any]:
        found = [
            {
                "num": int(revision.rpartition("/")[2]),
                "title": "Adding `safetensors` variant of this model",
                "author": {"name": self.server.hub.author},
                "status": "open",
                "isPullRequest": True,
                "createdAt": "2024-01-01T00:00:00.000Z",
                "repo": {"name": name, "type": kind.removesuffix("s")},
            }
            for revision, _ in self.server.hub.revisions(kind, name)
        ]
        return {"discussions": found, "count": len(found), "start": 0}

    def _tree(self, repository: Path, folder: str, query: dict[str, str]) -> None:
        base = repository / folder
        if not base.exists():
            self._missing("EntryNotFound")
            return
        paths = base.rglob("*") if query.get("recursive", "").lower() == "true" else base.iterdir()
        self._reply(200, [_entry(repository, path) for path in sorted(paths)])

    def _file(self, match: re.Match[str], truncate: bool) -> None:
        kind, name, revision, relative = (urllib.parse.unquote(group or "") for group in match.groups())
        repository = self.server.hub.repository(kind or "models", name, revision)
        path = (repository / relative).resolve() if repository else None
        if repository is None or path is None or repository not in path.parents or not path.is_file():
            headers = {"X-Error-Code": "EntryNotFound" if repository else "RepoNotFound", "X-Repo-Commit": MAIN_SHA}
            self._reply(404, b"Entry not found", "text/plain", headers)
            return
        data, status = path.read_bytes(), 200
        headers = {"ETag": f'"{_git_oid(path)}"', "X-Repo-Commit": _sha(repository), "Accept-Ranges": "bytes"}
        if asked := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            if first > last:
                self._reply(416, b"", headers={"Content-Range": f"bytes */{len(data)}"})
                return
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        promised = len(data)
        if truncate and self.command != "HEAD":
            data = data[: len(data) // 2]
            self.close_connection = True
        self._reply(status, data, "application/octet-stream", headers, promised)

    def _missing(self, code: str) -> None:
        self._reply(404, {"error": "not found"}, headers={"X-Error-Code": code})

    def _reply(
        self,
        status: int,
        body: object = b"",
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
        promised: int | None = None,
    ) -> None:
        """Answer with bytes, or with anything else as JSON; `promised` is the length claimed, if not the true one."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if promised is None else promised))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _description(repository: Path, name: str) -> dict[str, Any]:
    """A repository as the Hub's API describes it."""
    files = sorted(path for path in repository.rglob("*") if path.is_file())
    return {
        "_id": "0",
        "id": name,
        "sha": _sha(repository),
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "lastModified": "2024-01-01T00:00:00.000Z",
        "siblings": [{"rfilename": path.relative_to(repository).as_posix()} for path in files],
    }


if __name__ == "__main__":
    with LoopbackHub(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0) as served:
        print(served.url, flush=True)
        threading.Event().wait()
