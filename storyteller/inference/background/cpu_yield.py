"""Makes generation leave the processor to a run that trains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from storyteller.system import cpu_priority

_POLL_SECONDS = 2.0  # how often the process checks whether a run trains, while it generates
_RETRY_SECONDS = 0.05


class CpuYield:
    """Runs each story on a thread that starts at full speed and yields to training once its first text is shown.

    Two mechanisms are needed, because Linux divides the processor twice:

    - Between the threads of one session, by their priorities (niceness and scheduling policy). An unprivileged thread
      can lower its priority but never raise it again. So each story has a thread of its own, which ends with it, while
      the process's other threads, which load models and answer the parent, keep their priority.
    - Between whole sessions, if autogrouping is enabled, and then the niceness of a thread has no effect on other
      sessions. This process is a session of its own (`JsonLinesProcess`), so the weight of its group is set in
      `/proc/self/autogroup`. That can be raised again, and returns to 0 while a model loads and when training ends.
    """

    def __init__(self, is_training: Callable[[], bool]) -> None:
        self._is_training = is_training
        self._lock = threading.Lock()
        self._full_speed: set[int] = set()  # threads of stories that are loading their model
        self._yielding: set[int] = set()  # threads of stories that have called `lower_priority`
        self._exempt = {threading.get_native_id()}
        self._changed = threading.Event()
        self._autogroup: Path | None = Path("/proc/self/autogroup")
        self._group_niceness = 0
        threading.Thread(target=self._watch, name="cpu-yield", daemon=True).start()

    def start(self, work: Callable[[], None]) -> None:
        """Runs `work` on a new thread, at full speed until it calls `lower_priority`."""

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._full_speed.discard(threading.get_native_id())
                    self._yielding.discard(threading.get_native_id())
                self._changed.set()

        thread = threading.Thread(target=run, daemon=True)
        with self._lock:
            thread.start()
            self._full_speed.add(thread.native_id or 0)
        self._changed.set()

    def exempt_this_thread(self) -> None:
        """Keeps the priority of the calling thread, which only reads or writes."""
        with self._lock:
            self._exempt.add(threading.get_native_id())

    def lower_priority(self) -> None:
        """From now on, while a run trains, the calling thread and the model's threads and process yield to it."""
        with self._lock:
            self._full_speed.discard(threading.get_native_id())
            self._yielding.add(threading.get_native_id())
        self._changed.set()

    def _watch(self) -> None:
        self.exempt_this_thread()
        while True:
            self._changed.wait(_POLL_SECONDS if self._yielding else None)
            self._changed.clear()
            if not self._yielding or not self._is_training():
                cpu_priority.THROTTLE.enable(False)
                self._set_group_niceness(0)
            else:
                with self._lock:
                    # The threads of the model (OpenMP's, CTranslate2's) cannot be told from others, so all but the
                    # known ones are lowered. A child process may belong to a story whose model is still loading; as
                    # its priority could not be raised again, children are lowered only when no model is loading.
                    cpu_priority.lower_generation_priority(
                        self._exempt | self._full_speed, children=not self._full_speed
                    )
                self._set_group_niceness(0 if self._full_speed else cpu_priority.GENERATION_NICENESS)

    def _set_group_niceness(self, niceness: int) -> None:
        if niceness != self._group_niceness and self._autogroup is not None:
            try:
                self._autogroup.write_text(str(niceness))
                self._group_niceness = niceness
            except BlockingIOError:  # the kernel accepts only a few changes a second from an unprivileged process
                time.sleep(_RETRY_SECONDS)
                self._changed.set()
            except OSError:  # autogrouping is not available
                self._autogroup = None
