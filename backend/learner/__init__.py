"""Approvals become examples: events are hints, the export is the truth. Knows no queue and no network model."""

from backend.learner.learner import Describe, Learner
from backend.learner.learnt import Learnt

__all__ = ["Describe", "Learner", "Learnt"]
