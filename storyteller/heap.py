"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Of malloc.h."""
_KEEPING = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1))
"""One heap; blocks of up to 1 GiB come from it; 2 GiB at its end may be free."""


def keep_what_is_freed() -> None:
    """Let the C library keep large blocks that are freed, where it is glibc, for the next that is asked for.

    By itself it gives them back to the kernel, which hands out zeroed pages anew: 30,000 page faults a step of the
    default preset, a tenth of its processor time, and 3,000 to 10,000 for each loading of a small model that tells,
    half of its time.

    Call it before there are threads: those that come later then share one heap. The heaps that they would have of their
    own hold 64 MiB each and are given back whole, which is up to 15,000 page faults a step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # another C library
    for parameter, value in _KEEPING:
        mallopt(parameter, value)
