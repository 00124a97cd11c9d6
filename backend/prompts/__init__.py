"""Tuned prompts: when tuning is due, how it runs, what the gate decides, versions and the way back. Knows no queue."""

from backend.prompts.alarm import Alarm
from backend.prompts.influence import Influence
from backend.prompts.tunings import Ended, Tunings
from backend.prompts.versions import Prompts, RolledBack

__all__ = [
    "Alarm",
    "Ended",
    "Influence",
    "Prompts",
    "RolledBack",
    "Tunings",
]
