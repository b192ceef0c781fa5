"""The process that copies a run's log to its Weights & Biases page, beside the training process and after it.

`python -m storyteller.tracking.wandb_mirror RUN_FOLDER` reads the run's files alone, so nothing that happens to the network, the
server or its client can delay or end training. What it promises:

- Each line of the metrics, and the stories of each step, is one row of the page's history, in the order of the log. Its
  number is the page's own step, so on every start the server says how many rows it has and the next one follows: a
  killed mirror, an outage or a lost client leaves neither a gap nor a row twice. After the run has ended the server is
  asked once more; only then is the page called complete.
- Steps that a resumed run trains again are rows of their own: what they supersede stays in the history, drawn against
  `trainer/step` as the log has it, and the last row of a step is the one that counts.
- A reply that says "taken" for rows that were not (a captive portal, say) is noticed when they are the last ones: they
  are sent again. Rows lost so in the midst of others cannot be told, and stay in the run's own log alone.
- A table of stories is a row and a file beside it; of a mirror killed between the two, the page has the row alone.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from storyteller.config.configs import Config
from storyteller.errors import RunError, StorytellerError
from storyteller.system import cpu_priority, hardware
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders, run_index, run_process
from storyteller.tracking.metrics_log import by_step
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, seen_state
from storyteller.tracking.wandb_cursor import (
    WandbCursor,
    WandbRow,
    WandbRows,
    best_seal,
    is_complete,
    read_mirrored,
    records_from,
)

Mode = Literal["online", "offline", "off"]

_POLL_SECONDS = 1.0
_GRACE_SECONDS = 120.0
"""How long after the run's end what is missing may take; `sync` sends what is left."""
_INIT_SECONDS = 20.0
_FIRST_STATUS_SECONDS = 20.0
"""How long a run may take to say that it lives."""
_STOP_SECONDS = 40.0
"""Within which the client has surely asked whether to stop: it does so every 15 s."""
_BACK_OFF_SECONDS = (2.0, 60.0)
_REFUSALS = {
    r"\b401\b|unauthori[sz]ed|api.key": "the API key is not valid, see `wandb login --relogin`",
    r"\b403\b|permission": "the API key may not write to the project",
    r"previously created and deleted": "the page was deleted, which `wandb.json` in the run's folder still names",
}
"""What the client's errors say where trying again is of no use, and what that means."""


# --- whether to mirror at all -----------------------------------------------------------------------------------------


def choose_mode(wanted: str) -> tuple[Mode, str]:
    """What `--wandb` comes to here, and a line that says so (empty where it was asked for in so many words).

    Raises RunError for `online` where there are no credentials.
    """
    if wanted == "auto":
        asked = os.environ.get("WANDB_MODE", "").lower()
        if asked == "disabled":
            return "off", f"W&B: off (WANDB_MODE={asked})"
        if asked in ("offline", "dryrun"):
            return "offline", f"W&B: offline (WANDB_MODE={asked}); storyteller sync sends the run later"
        if not hardware.has_wandb_key():
            return "off", "W&B: off (no API key here; `wandb login` or WANDB_API_KEY turns it on)"
        return "online", "W&B: online (--wandb off turns it off)"
    if wanted == "online" and not hardware.has_wandb_key():
        raise RunError(
            "--wandb online finds no API key", "run `wandb login`, set WANDB_API_KEY, or take --wandb offline"
        )
    return ("online" if wanted == "online" else "offline" if wanted == "offline" else "off"), ""


# --- the process ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's exit status: 0 all is there, or there was nothing to do; 1 rows are missing on the server."""
    parser = argparse.ArgumentParser(prog="storyteller.tracking.wandb_mirror", description="Mirror one run.")
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--mode", choices=("online", "offline"), default="online")
    parser.add_argument("--since", type=int, default=0, help="nanoseconds: an older status is of an earlier process")
    parser.add_argument("--grace", type=float, default=_GRACE_SECONDS, help="seconds after the run's end")
    given = parser.parse_args(arguments)
    with contextlib.suppress(OSError):
        os.nice(cpu_priority.MIRROR)
    try:
        return mirror(RunFolder(given.folder.resolve()), given.mode, since_ns=given.since, grace_seconds=given.grace)
    except StorytellerError as error:
        print(safe_line(str(error)), flush=True)
        return error.exit_status


def mirror(folder: RunFolder, mode: str, *, since_ns: int = 0, grace_seconds: float = _GRACE_SECONDS) -> int:
    """Mirror the run until it has ended and all of it is sent; the exit status of `main`.

    One mirror a run: where another has the run's lock, this one waits for it to end, and gives up where it goes on.
    """
    from filelock import FileLock, Timeout

    if not folder.run_json.is_file():
        return 0
    try:
        # A run may be resumed while its last mirror still sends what was left: that one ends, this one takes over.
        lock = FileLock(folder.mirror_lock).acquire(timeout=grace_seconds + 60)
    except Timeout:
        return 0
    with lock:
        return WandbMirror(folder, mode, since_ns, grace_seconds).run()


class _Refused(Exception):
    """The server will not have the run, now or later."""


class WandbMirror:
    """One run's mirror: sessions with the server, one after another, until the server has all there is."""

    def __init__(self, folder: RunFolder, mode: str, since_ns: int, grace_seconds: float) -> None:
        self.folder = folder
        self.mode = mode
        self.opened = 0.0
        self.config = Config.from_json(folder.read_run().get("config") or {}).mirror
        self._since_ns = since_ns
        self._grace_seconds = grace_seconds
        self._begin = time.monotonic()
        self._lived = False
        self._ended: float | None = None
        self._told_end: tuple[str, str] | None = None
        self._is_away = False
        self._wait_seconds = _BACK_OFF_SECONDS[0]
        self._tries = (-1, 0)
        self._stop_asked = False

    def run(self) -> int:
        """Mirror the run to its end; the exit status of `main`."""
        if not self._await_first_row():
            return 0
        while True:
            problem = "what was sent is not all there"
            try:
                if self._session():
                    break
            except _Refused as error:
                return self._give_up(f"W&B refuses {self.folder.name}", str(error), "put that right, then")
            except Exception as error:  # noqa: BLE001  the client raises of every kind, and none may end the mirror
                problem = _words(error)
                self._away(problem)
            finally:
                _tear_down()
            if self._over() and self._left_seconds() <= 0:
                return self._give_up(f"W&B does not have all of {self.folder.name}", problem)
            if self._is_away:
                time.sleep(max(0.1, min(self._wait_seconds, self._left_seconds())))
                self._wait_seconds = min(2 * self._wait_seconds, _BACK_OFF_SECONDS[1])
            else:
                time.sleep(_POLL_SECONDS)  # a server may take a moment to count what it was sent
        self._drop("run-*")
        return 0

    # --- the run, from outside ----------------------------------------------------------------------------------------

    def _await_first_row(self) -> bool:
        """Wait until there is something to show; False where the run ended, or went, before there was."""
        rows = WandbRows(self.folder, read_mirrored(self.folder) or WandbCursor.fresh(self.config.wandb_project))
        while True:
            over = self._over()
            if not self.folder.run_json.is_file():
                return False
            if rows.mirrored.rows or not rows.at_end():
                return not (over and self.mode == "online" and is_complete(self.folder))
            if over:
                return False
            time.sleep(_POLL_SECONDS)

    def _over(self) -> bool:
        """Whether the run has ended: it no longer lives, and not because it is only now beginning."""
        if seen_state(self.folder) in LIVING:
            self._lived, self._ended = True, None
            return False
        try:
            is_new = self.folder.status_json.stat().st_mtime_ns >= self._since_ns - 50_000_000
        except OSError:
            is_new = False
        over = self._lived or is_new or time.monotonic() - self._begin > _FIRST_STATUS_SECONDS
        if over and self._ended is None:
            self._ended = time.monotonic()
        return over

    def _left_seconds(self) -> float:
        """Until the mirror gives up; without end while the run lives."""
        return float("inf") if self._ended is None else self._ended + self._grace_seconds - time.monotonic()

    def stop_run(self) -> None:
        """The page's "Stop run": ask the run to finish its step, save and end. Called on a thread of the client's."""

        def stop() -> None:
            with contextlib.suppress(StorytellerError):
                run_process.stop(self.folder)

        mirrored = read_mirrored(self.folder)
        is_old = mirrored is not None and mirrored.was_stopped
        if is_old and time.monotonic() - self.opened < _STOP_SECONDS:
            return  # what stopped the run before it was resumed: its page may say so still
        if seen_state(self.folder) in LIVING:
            self._stop_asked = True
            self._say("stopped from its W&B page")
            threading.Thread(target=stop, name="stop", daemon=True).start()

    # --- the page -----------------------------------------------------------------------------------------------------

    def _session(self) -> bool:
        """Send what the server does not have until the run ends; True where it was found to have all.

        Raises whatever the client raises; what was sent meanwhile is found out by the next session.
        """
        rows = WandbRows(self.folder, read_mirrored(self.folder) or WandbCursor.fresh(self.config.wandb_project))
        rows.note(mode=self.mode, ended_as="")
        run = self._open(rows)
        if self.mode == "online":
            if rows.mirrored.url != run.url or self._is_away:
                self._say(f"W&B: {run.url}")
            rows.note(url=run.url, entity=run.entity, problem="")
            rows.skip_to(run.starting_step)
        self._is_away, self._wait_seconds = False, _BACK_OFF_SECONDS[0]
        begin = rows.number
        self._follow(run, rows)
        sends_best = self.config.wandb_artifacts and self.mode == "online"
        end = (seen_state(self.folder), best_seal(self.folder) if sends_best else "")
        is_known = rows.number == begin and self._told_end == end
        if not is_known:
            self._send_end(run, rows, *end)
        rows.note(was_stopped=rows.mirrored.was_stopped or self._stop_asked)
        run.finish(exit_code=0 if end[0] in ("finished", "stopped") else 1)
        self._told_end = end
        if self.mode == "offline" or is_known:
            rows.note(ended_as=end[0], artifact=end[1])
        return self.mode == "offline" or is_known

    def _open(self, rows: WandbRows) -> Any:
        """The client's run. Raises _Refused where trying again is of no use."""
        import wandb

        settings = wandb.Settings(
            init_timeout=min(_INIT_SECONDS, max(3.0, self._grace_seconds / 6)),
            finish_timeout=max(5.0, self._grace_seconds / 2),
            finish_timeout_raises=True,
            stop_fn=self.stop_run,
            console="off",
            silent=True,
            symlink=False,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,  # of this process: the run's own is in the config
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._drop("offline-run-*" if self.mode == "offline" else "run-*")  # of earlier sessions: the log has it all
        self.opened = time.monotonic()
        self.folder.wandb_files.mkdir(exist_ok=True)
        try:
            run = wandb.init(
                mode="offline" if self.mode == "offline" else "online",
                id=rows.mirrored.id,
                resume=None if self.mode == "offline" else "allow",
                project=rows.mirrored.project,
                entity=rows.mirrored.entity,
                name=self.folder.name,
                dir=str(self.folder.path),
                config=_config(self.folder.read_run()),
                settings=settings,
            )
        except Exception as error:
            why = next((why for said, why in _REFUSALS.items() if re.search(said, str(error), re.I)), "")
            if why and isinstance(error, wandb.Error):
                raise _Refused(why) from error
            raise
        run.define_metric("trainer/step")
        run.define_metric("*", step_metric="trainer/step")
        return run

    def _follow(self, run: Any, rows: WandbRows) -> None:
        """Send rows as they come, until the run has ended and there are no more."""
        while True:
            over = self._over()  # before the look: nothing written after it is missed
            while (row := rows.next(settled=over)) is not None:
                self._send(run, row)
            if over:
                return
            time.sleep(_POLL_SECONDS)

    def _send(self, run: Any, row: WandbRow) -> None:
        if row.metrics is not None:
            run.log(_logged(row.metrics), step=row.number, commit=True)
            return
        import wandb

        # A table is uploaded as a file, which can fail where numbers get through: the third time it is told as text.
        self._tries = (row.number, self._tries[1] + 1 if self._tries[0] == row.number else 1)
        columns = ["step", "prompt", "text", "seed"]
        told: Any = "\n\n".join(f"{story.get('prompt', '')}{story.get('text', '')}" for story in row.stories)
        if self._tries[1] <= 2:
            told = wandb.Table(columns, [[story.get(column) for column in columns] for story in row.stories])
        step = row.stories[-1].get("step") if row.stories else None
        run.log({"stories": told, "trainer/step": step}, step=row.number, commit=True)

    def _send_end(self, run: Any, rows: WandbRows, state: str, seal: str) -> None:
        """The summary and, where that was asked for, the best checkpoint."""
        run.summary.update(summary(self.folder))
        best = checkpoint_folders.best(self.folder)
        if not seal or best is None or rows.mirrored.artifact == seal:
            return
        import wandb

        facts = {k: v for k, v in checkpoint_folders.manifest(best).items() if isinstance(v, int | float | str)}
        artifact = wandb.Artifact(f"{self.folder.name}-best", type="model", metadata=facts | {"state": state})
        for file in sorted(best.iterdir()):
            if file.is_file() and file.name != checkpoint_folders.MANIFEST:
                artifact.add_file(str(file))
        run.log_artifact(artifact, aliases=["best", best.name])

    def _drop(self, pattern: str) -> None:
        """Remove files of the client's own."""
        for left in self.folder.wandb_files.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)

    def _away(self, problem: str) -> None:
        if not self._is_away:
            self._say(f"W&B is away ({problem}): training goes on, and what is missing is sent when it is back")
        self._is_away = True

    def _give_up(self, what: str, problem: str, first: str = "") -> int:
        self._say(f"{what} ({problem}): {first} storyteller sync {self.folder.name}".replace("  ", " "))
        mirrored = read_mirrored(self.folder)
        if mirrored is not None:
            with contextlib.suppress(OSError):
                WandbRows(self.folder, mirrored).note(problem=problem)
        return 1

    def _say(self, line: str) -> None:
        """A line for the mirror's log and for the run's."""
        stamped = f"{time.strftime('%H:%M:%S')} {safe_line(line)}\n"
        print(stamped, end="", flush=True)
        with contextlib.suppress(OSError), self.folder.log.open("a", encoding="utf-8") as log:
            log.write(stamped)


def _logged(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the metrics as the page's: its step an ordinary figure, its time the row's own."""
    data = {key: value for key, value in record.items() if key not in ("step", "time")}
    data["trainer/step"] = record.get("step")
    with contextlib.suppress(KeyError, TypeError, ValueError):
        data["_timestamp"] = datetime.datetime.fromisoformat(record["time"]).timestamp()
    return data


def _config(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows as the run's configuration."""
    facts = ("name", "created_at", "seed", "data", "tokenizer", "model", "versions", "git_commit", "host")
    return {**(plan.get("config") or {}), "run": {key: plan[key] for key in facts if key in plan}}


def summary(folder: RunFolder) -> dict[str, Any]:
    """What the page says of the run as a whole."""
    seen = run_index.summarise(folder)
    told: dict[str, Any] = {"state": seen.state, "final/step": seen.step, "final/tokens": seen.tokens}
    told |= {"final/seconds": seen.seconds, "final/loss": seen.train_loss, "final/bpb": seen.eval_bpb}
    evaluated = by_step(record for record, _ in records_from(folder.metrics, 0) if "eval/bpb" in record)
    if evaluated:
        best = min(evaluated, key=lambda record: float(record["eval/bpb"]))
        told |= {"best/bpb": best["eval/bpb"], "best/step": best["step"]}
    return {key: value for key, value in told.items() if value is not None}


def _words(error: BaseException) -> str:
    """An error in one line."""
    return safe_line(f"{type(error).__name__}: {error}".split("\n")[0], 200)


def _tear_down() -> None:
    """Let the client's own process go, whatever state it is in: the next start begins with a new one."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()


if __name__ == "__main__":
    sys.exit(main())
