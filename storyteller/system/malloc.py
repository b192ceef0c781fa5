"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""
_KEEPING = ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1))
"""Blocks of up to 1 GiB come from a heap; 2 GiB at its end may be free."""
_PIECE = 62 << 20
"""Of the 64 MiB that glibc maps at a time for a thread's own heap: what is left over holds a pin."""
_PIN = 1 << 11
"""Bytes, more than a thread's cache of small blocks takes, so that it lies behind the piece."""


def keep_freed_blocks() -> None:
    """Let the C library keep large blocks that are freed, where it is glibc, for the next that is asked for.

    By itself it gives them back to the kernel, which hands out zeroed pages anew: 30,000 page faults a step of the
    default preset, a tenth of its processor time, and 3,000 to 10,000 for each loading of a small model that tells,
    half of its time.
    """
    libc = _glibc()
    if libc is not None:
        for parameter, value in _KEEPING:
            libc.mallopt(parameter, value)


def keep_thread_heap(pieces: int) -> None:
    """Let the heap of the calling thread keep up to `pieces` x 64 MiB that are freed, once `keep_freed_blocks` was
    called; a no-op without glibc.

    A heap of a thread's own is mapped 64 MiB at a time, and each piece that is wholly free is given back whatever the
    settings say: up to 15,000 page faults a step. A small block at the end of each keeps it. One heap for all threads
    has none of those, but then they wait for its lock, some 80 times a step and lane. What nobody has written to takes
    addresses and no memory; blocks of 64 MiB and more are still asked of the kernel each time.
    """
    libc = _glibc()
    if libc is None:
        return
    held = []
    for _ in range(pieces):
        held.append(libc.malloc(_PIECE))
        libc.malloc(_PIN)  # never freed
    for block in held:
        libc.free(block)  # of nothing too, where there was no room


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, where it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        _ = libc.gnu_get_libc_version, libc.mallopt
    except (OSError, AttributeError, TypeError):
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    return libc
