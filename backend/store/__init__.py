"""What the backend remembers: one contract (`Store`), one engine a database; knows no Label Studio API."""

from backend.store.contract import Change, Store
from backend.store.records import (
    Approval,
    Event,
    ExampleInfo,
    KeptIoU,
    PredictionRecord,
    ProjectRecord,
    StoredExample,
    TaskState,
)

__all__ = [
    "Approval",
    "Change",
    "Event",
    "ExampleInfo",
    "KeptIoU",
    "PredictionRecord",
    "ProjectRecord",
    "Store",
    "StoredExample",
    "TaskState",
]
