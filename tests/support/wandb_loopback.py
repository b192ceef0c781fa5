"""A stand-in for the Weights & Biases server on the loopback: enough for the real client to run online against it.

    with LoopbackWandb() as server:
        ...                                 # a client with the environment of server.env()
        server.run("run-id").history        # the rows that arrived, in order
        server.status = 503                 # an outage: every request is answered so; 0 ends it
        server.delay_seconds = 30           # it hangs
        server.malformed = True             # every answer is no JSON, though what was asked is done
        server.swallows = True              # every answer is no JSON, and nothing is kept
        server.down(); server.up()          # connections are refused; and no longer
        server.stop_runs = True             # what the page's "Stop run" does

State outlives the client's processes, so a run can be resumed. Checked with wandb 0.31: a model of the server, not the
server.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

ENTITY = "loopback"
KEY = "f00d" * 10
"""An API key as the client expects it; no log may hold it."""

_HISTORY, _EVENTS, _LOG = "wandb-history.jsonl", "wandb-events.jsonl", "output.log"


@dataclass
class Run:
    """What the server knows of one run."""

    name: str
    project: str
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    display: str = ""
    files: dict[str, list[str]] = field(default_factory=dict)
    """Lines of each file that is streamed."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files.get(_HISTORY, []) if line]

    def tail(self, file: str) -> str:
        return json.dumps(self.files.get(file, [])[-1:])

    def stream(self, request: dict[str, Any]) -> None:
        """Take the lines of one request, each file's at its offset."""
        for name, chunk in (request.get("files") or {}).items():
            if name == "wandb-summary.json":  # always whole
                self.summary = json.loads(chunk["content"][-1])
                continue
            lines, offset = self.files.setdefault(name, []), chunk.get("offset", 0)
            lines.extend([""] * (offset - len(lines)))
            lines[offset : offset + len(chunk["content"])] = chunk["content"]
        if request.get("complete"):
            self.complete, self.exit_code = True, request.get("exitcode")


class LoopbackWandb:
    """The server, under `url` while its `with` block lasts."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.calls: list[str] = []
        """`gql NAME` or `METHOD PATH` of each request, in order."""
        self.unknown: list[str] = []
        """Requests that this model has no answer to."""
        self.status: int = 0
        self.delay_seconds = 0.0
        self.malformed = False
        self.swallows = False
        self.stop_runs = False
        self._lock = threading.Lock()
        self._answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            name.removeprefix("_gql_"): getattr(self, name) for name in dir(self) if name.startswith("_gql_")
        }
        self._is_down = False
        self.port = port
        self.up()
        self.url = f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Listen, on the same port as before where there was one."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_POST(self) -> None:
                outer._handle(self)

            do_GET = do_PUT = do_POST

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None: ...  # clients reset connections that they no longer need

        self._is_down = False
        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and drop those there are when they ask next."""
        self._is_down = True
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_down:
            self.down()

    def env(self) -> dict[str, str]:
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def run(self, name: str) -> Run:
        return self.runs[name]

    def only_run(self) -> Run:
        """The one run there is."""
        (run,) = self.runs.values()
        return run

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if request.headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, 31)
        path = urlsplit(request.path).path
        label = f"{request.command} {path}"
        if path == "/graphql":
            asked = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            label = f"gql {asked.get('operationName') or (found and found[1])}"
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        if self._is_down:
            request.close_connection = True
            return
        with self._lock:
            self.calls.append(label)
            status, answer = self.status, {"error": "injected"}
            if not self.status:
                status, answer = (200, {}) if self.swallows else self._answer(label, body)
        is_broken = self.malformed or self.swallows
        out = b"<html>not what you asked for" if is_broken else json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(out)))
        request.end_headers()
        request.wfile.write(out)

    def _answer(self, label: str, body: bytes) -> tuple[int, dict[str, Any]]:
        kind, _, rest = label.partition(" ")
        if kind == "gql":
            variables = json.loads(body).get("variables") or {}
            if rest not in self._answers:
                self.unknown.append(label)
                return 200, {"data": None, "errors": [{"message": f"loopback: no {rest}"}]}
            try:
                return 200, {"data": self._answers[rest](variables)}
            except (KeyError, TypeError, ValueError) as error:  # the client would retry a 5xx for hours
                self.unknown.append(f"{label}: {error!r} {json.dumps(variables)[:400]}")
                return 400, {"error": repr(error)}
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", rest)
        if stream and kind == "POST":
            self.runs[stream[1]].stream(json.loads(body))
            return 200, {"exitcode": None, "limits": {}, "stopped": self.stop_runs}
        if rest.startswith("/blob/") and kind == "PUT":
            key = rest.removeprefix("/blob/")
            self.blobs[key] = body
            what, owner, name = key.split("/", 2)
            if what == "run":
                self.runs[owner].uploads[name] = body
            return 200, {}
        self.unknown.append(label)
        return 404, {"error": "not found"}

    # --- GraphQL: one method a query ----------------------------------------------------------------------------------

    def _gql_ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _gql_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        flags = '{"code_saving_enabled": false}'
        viewer = {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "a@b.c", "flags": flags}
        return {"viewer": viewer | {"teams": {"edges": []}}}

    def _gql_OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _gql_UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("name") or _plain_id(asked["id"])
        is_new = name not in self.runs
        run = self.runs.setdefault(name, Run(name, asked.get("project") or "uncategorized"))
        if asked.get("config"):
            run.config = json.loads(asked["config"])
        run.display, run.complete = asked.get("displayName") or run.display, False
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": is_new}}

    def _gql_RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked["name"])
        model = {"id": "p", "name": asked.get("project"), "entity": {"id": "e", "name": ENTITY}}
        if run is None:
            return {"model": {**model, "bucket": None}}
        bucket = {
            **self._bucket(run),
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": len(run.files.get(_LOG, [])),
            "eventsLineCount": len(run.files.get(_EVENTS, [])),
            "historyTail": run.tail(_HISTORY),
            "eventsTail": run.tail(_EVENTS),
            "tags": [],
            "notes": "",
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**model, "bucket": bucket}}

    def _gql_RunStoppedStatus(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"stopped": self.stop_runs}}}

    def _gql_CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = asked["run"]
        files = [{"name": file, "uploadUrl": f"{self.url}/blob/run/{run}/{file}"} for file in asked["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _gql_ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _gql_CreateArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = _id("Artifact", str(len(self.artifacts)))
        self.artifacts[name] = {**asked["input"], "state": "PENDING"}
        artifact = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _gql_CreateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        address = f"{self.url}/blob/manifest/{asked['artifactID']}/{asked['name']}"
        upload = {"uploadUrl": address, "uploadHeaders": []} if asked.get("includeUpload") else {}
        manifest = {"id": asked["artifactID"], "file": {"id": "f", **upload}}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _gql_UpdateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["artifactManifestID"]
        file = {"id": "f", "uploadUrl": f"{self.url}/blob/manifest/{name}/final", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": name, "file": file}}}

    def _gql_CreateArtifactFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in (asked.get("input") or asked)["artifactFiles"]:
            at = f"{file['artifactID']}/{file['name']}"
            node = {"storagePath": at, "uploadUrl": f"{self.url}/blob/artifact/{at}", "uploadHeaders": []}
            edges.append({"node": node | {"uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _gql_CommitArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[asked["artifactID"]]
        artifact["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": artifact["digest"]}}}

    def _bucket(self, run: Run) -> dict[str, Any]:
        entity = {"id": _id("Entity", ENTITY), "name": ENTITY}
        return {
            "id": _id("Run", run.name),
            "name": run.name,
            "displayName": run.display or run.name,
            "description": "",
            "config": json.dumps(run.config),
            "sweepName": None,
            "historyLineCount": len(run.files.get(_HISTORY, [])),
            "project": {"id": _id("Project", run.project), "name": run.project, "entity": entity},
        }


def _id(kind: str, name: str) -> str:
    return base64.b64encode(f"{kind}:v1:{name}".encode()).decode()


def _plain_id(name: str) -> str:
    return base64.b64decode(name).decode().rsplit(":", 1)[1]
