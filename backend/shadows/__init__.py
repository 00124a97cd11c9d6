"""Shadows: a prompt, or examples alone, that predict silently beside what is in use; loads no torch.

Nobody sees what a shadow predicts. Of each submission whose prediction was by what is in use, the worker predicts the
same picture by the shadow too (`backend.shadowing`), and what would have been kept of its mask is noted beside the kept
IoU of what was shown. Each label has at most one that runs.
"""

from backend.shadows.asking import MOST, USUAL, start, stop, why_over
from backend.shadows.comparing import FEWEST, Comparison, Pair, Verdict, compare
from backend.shadows.noting import end, predicted, wait_for
from backend.shadows.records import Shadow, Waiting, called, read

__all__ = [
    "FEWEST",
    "MOST",
    "USUAL",
    "Comparison",
    "Pair",
    "Shadow",
    "Verdict",
    "Waiting",
    "called",
    "compare",
    "end",
    "predicted",
    "read",
    "start",
    "stop",
    "wait_for",
    "why_over",
]
