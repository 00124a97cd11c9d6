"""Hands freed memory back to the system, where the C library would keep it."""

import ctypes
import sys
from collections.abc import Callable


def _trimmer() -> Callable[[int], int] | None:
    """The GNU C library's `malloc_trim`; None where there is another library."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


_trim = _trimmer()


def give_back() -> bool:
    """Hand back all pages that hold nothing; takes milliseconds.

    Arrays of a megabyte that come and go between small things that stay leave holes in the heap, which the library
    fills badly and keeps: a process then grows for as long as it works, though it holds no more than before.

    Returns:
        Whether anything was handed back.
    """
    return _trim is not None and bool(_trim(0))
