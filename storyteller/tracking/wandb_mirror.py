"""Copies a run to its Weights & Biases page, in a process of its own, while the run trains and after it has ended.

`python -m storyteller.tracking.wandb_mirror RUN_FOLDER` only reads the run's files, so no failure of the network, the
server or its client can delay or end training.

- Each line of the metrics, and the stories of each step, is one row of the page's history, in the order of the log. The
  row's number is W&B's `step`. On every start the server says how many rows it has, and the next one follows: after a
  kill, an outage or a crash of the client no row is missing and none is there twice. After the run has ended the server
  is asked once more; only then is the page complete.
- Steps that a resumed run trains again are new rows. The superseded ones stay in the history, plotted against
  `trainer/step`; the last row of a step is the one that counts.
- If a server accepts rows and does not keep them (a captive portal, for example), they are sent again as long as they
  are the last ones. Rows lost between others cannot be detected; they remain in the run's own log.
- A table of stories is a row and an uploaded file. A mirror killed between the two leaves the row without its table.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from storyteller.config.configs import Config, Wandb
from storyteller.errors import RunError, StorytellerError
from storyteller.system import cpu_priority, hardware
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders, run_index, run_process
from storyteller.tracking.metrics_log import by_step, iter_records
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, seen_state
from storyteller.tracking.wandb_cursor import WandbCursor, WandbRow, WandbRows, is_complete, read_cursor

Mode = Literal["online", "offline", "off"]

_POLL_SECONDS = 1.0
_GRACE_SECONDS = 120.0  # time after the run's end to send what is missing; `storyteller sync` sends the rest
_INIT_SECONDS = 20.0
_FIRST_STATUS_SECONDS = 20.0  # time a run may take to write its first status
_STOP_SECONDS = 40.0  # longer than the client takes to ask the server whether to stop: it does so every 15 s
_BACK_OFF_SECONDS = (2.0, 60.0)
_RUN_FACTS = ("name", "created_at", "seed", "data", "tokenizer", "model", "versions", "git_commit", "host")
_REFUSALS = {
    r"\b401\b|unauthori[sz]ed|api.key": "the API key is not valid, see `wandb login --relogin`",
    r"\b403\b|permission": "the API key may not write to the project",
    r"previously created and deleted": "the page named in `wandb.json` of the run's folder was deleted",
}
"""Patterns in the client's errors for which trying again is of no use, and what to tell the user."""


def choose_mode(wanted: Wandb) -> tuple[Mode, str]:
    """Resolves `--wandb`. Returns the mode and a line that explains it; the line is empty unless `wanted` is `auto`.

    Raises RunError for `online` without credentials.
    """
    if wanted == "auto":
        asked = os.environ.get("WANDB_MODE", "").lower()
        if asked == "disabled":
            return "off", f"W&B: disabled (WANDB_MODE={asked})"
        if asked in ("offline", "dryrun"):
            return "offline", f"W&B: offline (WANDB_MODE={asked}); storyteller sync uploads the run later"
        if not hardware.has_wandb_key():
            return "off", "W&B: disabled (no API key found; `wandb login` or WANDB_API_KEY enables it)"
        return "online", "W&B: online (--wandb off disables it)"
    if wanted == "online" and not hardware.has_wandb_key():
        raise RunError(
            "--wandb online: no API key found", "run `wandb login`, set WANDB_API_KEY, or use --wandb offline"
        )
    return wanted, ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Mirrors the run until it has ended and all of it is sent.

    Returns the exit status: 0 if the server has everything or there is nothing to send, 1 if rows are missing.
    """
    from filelock import FileLock, Timeout

    parser = argparse.ArgumentParser(prog="storyteller.tracking.wandb_mirror", description="Mirror one run to W&B.")
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--mode", choices=("online", "offline"), default="online")
    parser.add_argument("--since", type=int, default=0, help="nanoseconds: an older status is an earlier process's")
    parser.add_argument("--grace", type=float, default=_GRACE_SECONDS, help="seconds after the run's end")
    given = parser.parse_args(arguments)
    folder = RunFolder(given.folder.resolve())
    with contextlib.suppress(OSError):
        os.nice(cpu_priority.MIRROR_NICENESS)
    try:
        if not folder.run_json.is_file():
            return 0
        # There is one mirror a run. A run may be resumed while its earlier mirror still sends the rest: that one ends,
        # this one waits and takes over.
        with FileLock(folder.mirror_lock).acquire(timeout=given.grace + 60):
            return WandbMirror(folder, given.mode, given.since, given.grace).run()
    except Timeout:
        return 0
    except StorytellerError as error:
        print(safe_line(str(error)), flush=True)
        return error.exit_status


class _Refused(Exception):
    """The server refuses the run; trying again is of no use."""


class WandbMirror:
    """Mirrors one run: opens sessions with the server, one after another, until it has all rows."""

    def __init__(self, folder: RunFolder, mode: str, since_ns: int, grace_seconds: float) -> None:
        self.folder = folder
        self.mode = mode
        self.opened = 0.0
        self.config = Config.from_json(folder.read_run().get("config") or {}).mirror
        self._since_ns = since_ns
        self._grace_seconds = grace_seconds
        self._begin = time.monotonic()
        self._was_alive = False
        self._ended: float | None = None
        self._sent_end: tuple[str, str] | None = None
        self._wait_seconds = 0.0  # before the next session; 0 unless the server is unreachable
        self._tries = (-1, 0)
        self._stop_asked = False

    def run(self) -> int:
        """Mirrors the run to its end. Returns the exit status of `main`."""
        if not self._await_first_row():
            return 0
        import wandb

        while True:
            problem = "the server does not have every row that was sent"
            try:
                if self._session():
                    break
            except _Refused as error:
                return self._give_up(f"W&B refuses {self.folder.name}", str(error), "fix that, then run")
            except Exception as error:  # noqa: BLE001  the client raises errors of every kind; none may end the mirror
                problem = safe_line(f"{type(error).__name__}: {error}".split("\n")[0], 200)
                if not self._wait_seconds:
                    self._log(f"W&B is unreachable ({problem}): training goes on, and the missing rows are sent later")
                self._wait_seconds = min(2 * self._wait_seconds or _BACK_OFF_SECONDS[0], _BACK_OFF_SECONDS[1])
            finally:
                with contextlib.suppress(Exception):  # ends the client's own process; the next session starts a new one
                    wandb.teardown()
            if self._has_ended() and self._left_seconds() <= 0:
                return self._give_up(f"W&B does not have all of {self.folder.name}", problem)
            if self._wait_seconds:
                time.sleep(max(0.1, min(self._wait_seconds, self._left_seconds())))
            else:
                time.sleep(_POLL_SECONDS)  # a server may take a moment to count the rows it was sent
        self._remove_client_files("run-*")
        return 0

    def _await_first_row(self) -> bool:
        """Waits until there is a row. False if the run ended or was deleted before, or its page is complete already."""
        rows = self._rows()
        while True:
            over = self._has_ended()
            if not self.folder.run_json.is_file():
                return False
            if rows.cursor.rows or not rows.at_end():
                return not (over and self.mode == "online" and is_complete(self.folder))
            if over:
                return False
            time.sleep(_POLL_SECONDS)

    def _rows(self) -> WandbRows:
        return WandbRows(self.folder, read_cursor(self.folder) or WandbCursor.fresh(self.config.wandb_project))

    def _has_ended(self) -> bool:
        """True once the run has ended, as opposed to not having started yet."""
        if seen_state(self.folder) in LIVING:
            self._was_alive, self._ended = True, None
            return False
        # Until the new process writes its first status, the file may be that of an earlier process of a resumed run. An
        # old status counts as an end only after a while.
        is_new = False
        with contextlib.suppress(OSError):
            is_new = self.folder.status_json.stat().st_mtime_ns >= self._since_ns - 50_000_000
        over = self._was_alive or is_new or time.monotonic() - self._begin > _FIRST_STATUS_SECONDS
        if over and self._ended is None:
            self._ended = time.monotonic()
        return over

    def _left_seconds(self) -> float:
        """Time until the mirror gives up; infinite while the run is training."""
        return float("inf") if self._ended is None else self._ended + self._grace_seconds - time.monotonic()

    def stop_run(self) -> None:
        """Handles "Stop run" on the page: asks the run to save and end. Called on a thread of the client."""

        def stop() -> None:
            with contextlib.suppress(StorytellerError):
                run_process.stop(self.folder)

        cursor = read_cursor(self.folder)
        was_stopped = cursor is not None and cursor.was_stopped
        if was_stopped and time.monotonic() - self.opened < _STOP_SECONDS:
            return  # probably the request that stopped the run before it was resumed: the page may still show it
        if seen_state(self.folder) in LIVING:
            self._stop_asked = True
            self._log("stopped from its W&B page")
            threading.Thread(target=stop, name="stop", daemon=True).start()

    def _session(self) -> bool:
        """Sends the rows that the server lacks until the run ends. True if the server confirmed that it has all.

        Raises whatever the client raises. The next session asks the server what arrived.
        """
        rows = self._rows()
        rows.update_cursor(mode=self.mode, ended_as="")
        run = self._open(rows)
        if self.mode == "online":
            if rows.cursor.url != run.url or self._wait_seconds:
                self._log(f"W&B: {run.url}")
            rows.update_cursor(url=run.url, entity=run.entity, problem="")
            rows.skip_to(run.starting_step)
        self._wait_seconds = 0.0
        begin = rows.number
        while True:
            over = self._has_ended()  # before reading, so that the last rows are not missed
            while (row := rows.next(settled=over)) is not None:
                self._send(run, row)
            if over:
                break
            time.sleep(_POLL_SECONDS)
        sends_best = self.config.wandb_artifacts and self.mode == "online"
        end = (seen_state(self.folder), checkpoint_folders.best_manifest_sha256(self.folder) if sends_best else "")
        # The client reports success before the server has confirmed anything. So the page counts as complete only after
        # a later session, which asked for the number of rows, had nothing left to send.
        is_known = rows.number == begin and self._sent_end == end
        if not is_known:
            self._send_end(run, rows, *end)
        rows.update_cursor(was_stopped=rows.cursor.was_stopped or self._stop_asked)
        run.finish(exit_code=0 if end[0] in ("finished", "stopped") else 1)
        self._sent_end = end
        if self.mode == "offline" or is_known:
            rows.update_cursor(ended_as=end[0], artifact=end[1])
        return self.mode == "offline" or is_known

    def _open(self, rows: WandbRows) -> Any:
        """Opens the run with the client. Raises _Refused if trying again is of no use."""
        import wandb

        plan = self.folder.read_run()
        # What earlier sessions left is not needed: the run's own log has everything.
        self._remove_client_files("offline-run-*" if self.mode == "offline" else "run-*")
        self.opened = time.monotonic()
        self.folder.wandb_files.mkdir(exist_ok=True)
        try:
            run = wandb.init(
                mode="offline" if self.mode == "offline" else "online",
                id=rows.cursor.id,
                resume=None if self.mode == "offline" else "allow",
                project=rows.cursor.project,
                entity=rows.cursor.entity,
                name=self.folder.name,
                dir=str(self.folder.path),
                config={**(plan.get("config") or {}), "run": {key: plan[key] for key in _RUN_FACTS if key in plan}},
                settings=_client_settings(self._grace_seconds, self.stop_run),
            )
        except Exception as error:
            why = next((why for said, why in _REFUSALS.items() if re.search(said, str(error), re.I)), "")
            if why and isinstance(error, wandb.Error):
                raise _Refused(why) from error
            raise
        run.define_metric("trainer/step")
        run.define_metric("*", step_metric="trainer/step")
        return run

    def _send(self, run: Any, row: WandbRow) -> None:
        if row.metrics is not None:
            run.log(_page_metrics(row.metrics), step=row.number, commit=True)
            return
        import wandb

        # A table is uploaded as a file, which can fail although rows get through. The third attempt sends plain text.
        self._tries = (row.number, self._tries[1] + 1 if self._tries[0] == row.number else 1)
        columns = ["step", "prompt", "text", "seed"]
        stories: Any = "\n\n".join(f"{story.get('prompt', '')}{story.get('text', '')}" for story in row.stories)
        if self._tries[1] <= 2:
            stories = wandb.Table(columns, [[story.get(column) for column in columns] for story in row.stories])
        step = row.stories[-1].get("step") if row.stories else None
        run.log({"stories": stories, "trainer/step": step}, step=row.number, commit=True)

    def _send_end(self, run: Any, rows: WandbRows, state: str, manifest_sha256: str) -> None:
        """Sends the summary and, unless `manifest_sha256` is empty or was uploaded before, the best checkpoint."""
        run.summary.update(summary(self.folder))
        best = checkpoint_folders.best(self.folder)
        if best is None or manifest_sha256 in ("", rows.cursor.artifact):
            return
        import wandb

        facts = {k: v for k, v in checkpoint_folders.manifest(best).items() if isinstance(v, int | float | str)}
        artifact = wandb.Artifact(f"{self.folder.name}-best", type="model", metadata=facts | {"state": state})
        for file in sorted(best.iterdir()):
            if file.is_file() and file.name != checkpoint_folders.MANIFEST:
                artifact.add_file(str(file))
        run.log_artifact(artifact, aliases=["best", best.name])

    def _remove_client_files(self, pattern: str) -> None:
        for left in self.folder.wandb_files.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)

    def _give_up(self, what: str, problem: str, first: str = "") -> int:
        self._log(f"{what} ({problem}): {first} storyteller sync {self.folder.name}".replace("  ", " "))
        if (cursor := read_cursor(self.folder)) is not None:
            with contextlib.suppress(OSError):
                WandbRows(self.folder, cursor).update_cursor(problem=problem)
        return 1

    def _log(self, line: str) -> None:
        """Writes a line to the mirror's log and to the run's."""
        stamped = f"{time.strftime('%H:%M:%S')} {safe_line(line)}\n"
        print(stamped, end="", flush=True)
        with contextlib.suppress(OSError), self.folder.log.open("a", encoding="utf-8") as log:
            log.write(stamped)


def _client_settings(grace_seconds: float, stop_fn: Callable[[], None]) -> Any:
    """The client's settings. Those that start with `x_` are not part of wandb's public interface."""
    import wandb

    return wandb.Settings(
        init_timeout=min(_INIT_SECONDS, max(3.0, grace_seconds / 6)),
        finish_timeout=max(5.0, grace_seconds / 2),
        finish_timeout_raises=True,
        stop_fn=stop_fn,
        console="off",
        silent=True,
        symlink=False,
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,  # of this process: the training process's is in the config
        x_disable_stats=True,
        x_save_requirements=False,
    )


def _page_metrics(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the metrics in the page's form: the step as a metric, the time as the row's timestamp."""
    data = {key: value for key, value in record.items() if key not in ("step", "time")}
    data["trainer/step"] = record.get("step")
    with contextlib.suppress(KeyError, TypeError, ValueError):
        data["_timestamp"] = datetime.datetime.fromisoformat(record["time"]).timestamp()
    return data


def summary(folder: RunFolder) -> dict[str, Any]:
    """The page's summary of the run."""
    seen = run_index.summarise(folder)
    values: dict[str, Any] = {"state": seen.state, "final/step": seen.step, "final/tokens": seen.tokens}
    values |= {"final/seconds": seen.seconds, "final/loss": seen.train_loss, "final/bpb": seen.eval_bpb}
    evaluated = by_step(record for record, _ in iter_records(folder.metrics) if "eval/bpb" in record)
    if evaluated:
        best = min(evaluated, key=lambda record: float(record["eval/bpb"]))
        values |= {"best/bpb": best["eval/bpb"], "best/step": best["step"]}
    return {key: value for key, value in values.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
