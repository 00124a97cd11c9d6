"""What the backend remembers: one contract (`Store`), one engine a database; knows no Label Studio API."""

from backend.store.contract import Change, PromptStore, Store
from backend.store.records import (
    Approval,
    Event,
    ExampleInfo,
    KeptFigures,
    KeptIoU,
    PredictedFrame,
    PredictionRecord,
    ProjectRecord,
    PromptRecord,
    StoredExample,
    TaskState,
    TuningRecord,
    WaitingEvents,
    WaitingTasks,
)

__all__ = [
    "Approval",
    "Change",
    "Event",
    "ExampleInfo",
    "KeptFigures",
    "KeptIoU",
    "PredictedFrame",
    "PredictionRecord",
    "ProjectRecord",
    "PromptRecord",
    "PromptStore",
    "Store",
    "StoredExample",
    "TaskState",
    "TuningRecord",
    "WaitingEvents",
    "WaitingTasks",
]
