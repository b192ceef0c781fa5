"""Tunes glibc's malloc so that freed memory is kept for reuse instead of being returned to the kernel."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # constants of malloc.h
_SETTINGS = ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1))
"""Allocate blocks of up to 1 GiB from a heap, and keep up to 2 GiB free at its end."""
_BLOCK = 62 << 20  # glibc maps the heap of a thread in segments of 64 MiB. This leaves room for the pin.
_PIN = 1 << 11
"""Bytes. Larger than the blocks of the thread cache, so that it is placed right after the block."""


def keep_freed_blocks() -> None:
    """Makes glibc keep large freed blocks for reuse. Does nothing with other C libraries.

    By default glibc returns them to the kernel, which zeroes pages before it hands them out again. That costs 30,000
    page faults per step of the default preset (a tenth of the CPU time), and 3,000 to 10,000 per loading of a small
    model (half of the time).
    """
    libc = _glibc()
    if libc is not None:
        for parameter, value in _SETTINGS:
            libc.mallopt(parameter, value)


def keep_thread_heap(segments: int) -> None:
    """Makes the heap of the calling thread keep up to `segments` x 64 MiB. Call `keep_freed_blocks` first.

    glibc maps the heap of a thread (its arena) in segments of 64 MiB and unmaps each one that is entirely free,
    whatever the settings: up to 15,000 page faults per step. A small block at the end of each segment that is never
    freed prevents this. A single heap for all threads would need no pins, but threads would wait for its lock about 80
    times per step each. Segments that were never written to take address space, but no memory. Blocks of 64 MiB and
    more are still mapped and unmapped each time.
    """
    libc = _glibc()
    if libc is None:
        return
    blocks = []
    for _ in range(segments):
        blocks.append(libc.malloc(_BLOCK))
        libc.malloc(_PIN)  # never freed
    for block in blocks:
        libc.free(block)  # may be NULL, if memory ran out


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process; None unless it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        _ = libc.gnu_get_libc_version, libc.mallopt
    except (OSError, AttributeError, TypeError):
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    return libc
