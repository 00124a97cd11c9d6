"""The records that the store keeps: plain values, the same for every engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from backend.protocol import project_number

ApprovalKind = Literal["drawn", "corrected", "accepted"]
TaskStatus = Literal["queued", "running", "done", "failed"]
PromptStatus = Literal["candidate", "active", "retired"]
PromptOrigin = Literal["tuned", "imported"]
Use = Literal["prompt", "both"]
"""A prompt alone, or beside examples."""
TuningStatus = Literal["queued", "running", "stopped", "done", "failed"]


@dataclass(frozen=True)
class ProjectRecord:
    """One Label Studio project.

    Attributes:
        key: `"{id}.{created, Unix seconds}"`, Label Studio's own name for it towards a backend.
        label_config: XML, "" where none has been seen yet.
        targets: fingerprint of the targets in the label config, "" where none has been seen.
        generation: moves when asking the backend again pays; part of the revision.
        approvals: how many approvals the project has ever had; never falls.
        reconciled: Unix time of the last full reconcile, 0.0 where there was none.
        signs: the cheap figures (annotation counts) seen at that reconcile, to tell whether another one pays.
    """

    key: str
    label_config: str = ""
    targets: str = ""
    generation: int = 0
    approvals: int = 0
    reconciled: float = 0.0
    signs: str = ""

    @property
    def id(self) -> int:
        """Label Studio's number of the project."""
        return project_number(self.key)


@dataclass(frozen=True)
class Event:
    """One webhook call, stored before it was acknowledged; secrets are already taken out of the body."""

    id: int
    project: str
    action: str
    body: Mapping[str, Any]
    received: float
    attempts: int = 0


@dataclass(frozen=True)
class WaitingEvents:
    """A project's events that have not been applied yet.

    Attributes:
        count: how many, at least 1.
        since: when the first of them was received, Unix time.
    """

    count: int
    since: float


@dataclass(frozen=True)
class Approval:
    """One submitted annotation that counts as approved, with or without masks in it.

    Attributes:
        project: project key.
        task: Label Studio's task id.
        annotation: Label Studio's annotation id; unique within a project.
        kind: how the mask came about.
        annotator: Label Studio's user id, None where unknown.
        at: when the annotation was last changed: ISO 8601 as Label Studio gives it.
        digest: hash of what the annotation says; equal digests teach the same.
        lead_time: seconds that the annotator took, None where unknown.
    """

    project: str
    task: int
    annotation: int
    kind: ApprovalKind
    annotator: int | None
    at: str
    digest: str
    lead_time: float | None = None


@dataclass(frozen=True)
class ExampleInfo:
    """An example without its arrays.

    Attributes:
        key: hash of the example's content and origin; equal keys mean equal content.
        target: `Target.id` of `label_config`.
        area: share of the image that the mask covers, 0 to 1.
        descriptor: what retrieval compares, float32 bytes, b"" where not computed.
        score: mean IoU, 0 to 1, with which it alone finds the other examples' masks, None where not measured.
        pinned: whether somebody wants it to stay in its pool and to be used.
        sequence: what its task's data names as its sequence, "" where nothing.
        frame: its place in the sequence, None where unknown.
    """

    key: str
    project: str
    target: str
    task: int
    annotation: int
    kind: ApprovalKind
    annotator: int | None
    at: str
    area: float
    descriptor: bytes = b""
    score: float | None = None
    pinned: bool = False
    sequence: str = ""
    frame: float | None = None


@dataclass(frozen=True)
class StoredExample:
    """An example as stored: `image` and `mask` are PNG files (RGB; 1 bit)."""

    info: ExampleInfo
    image: bytes
    mask: bytes


@dataclass(frozen=True)
class PredictedFrame:
    """What was predicted for one target on one frame of a sequence: an example that nobody has approved.

    Attributes:
        target: `Target.id` of `label_config`.
        sequence: as in `ExampleInfo`, never "".
        frame: its place there.
        score: 0 to 1, of this target.
        at: Unix time.
        image: PNG (RGB), of the size in which the network sees it.
        mask: 1-bit PNG of the same size; may be empty.
    """

    project: str
    target: str
    task: int
    sequence: str
    frame: float
    score: float
    at: float
    image: bytes
    mask: bytes


@dataclass(frozen=True)
class PredictionRecord:
    """What was predicted for a task and by which context.

    Attributes:
        revision: the `model_version` that it was given under.
        at: Unix time.
        score: 0 to 1.
        context: for each target id, the keys of the context used, prompt first.
        masks: for each target id, the predicted mask as a 1-bit PNG, at most `PREDICTION_SIDE` px a side.
        pushed: Label Studio's prediction id where we pushed it ourselves, else None.
        seconds: how long it took, image included.
    """

    project: str
    task: int
    revision: str
    at: float
    score: float
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    masks: Mapping[str, bytes] = field(default_factory=dict)
    pushed: int | None = None
    seconds: float = 0.0

    def with_pushed(self, prediction: int) -> "PredictionRecord":
        """The same record, now held by Label Studio under this prediction id."""
        return replace(self, pushed=prediction)


@dataclass(frozen=True)
class KeptIoU:
    """IoU between what we predicted for a task and what the annotator submitted, for one target."""

    project: str
    task: int
    annotation: int
    target: str
    revision: str
    iou: float
    at: float


@dataclass(frozen=True)
class KeptFigures:
    """A project's kept IoUs in two numbers.

    Attributes:
        count: how many there are.
        recent: mean of the newest, 0 to 1; None where there are none.
    """

    count: int
    recent: float | None


@dataclass(frozen=True)
class TaskState:
    """Where a task's background prediction stands, for people who wonder why nothing came."""

    project: str
    task: int
    status: TaskStatus
    reason: str
    revision: str
    at: float


@dataclass(frozen=True)
class WaitingTasks:
    """Tasks whose background prediction is queued or running.

    Attributes:
        states: of these tasks, by task id.
        news: when the state of any task of the project changed last, Unix time; 0.0 where it has none.
    """

    states: tuple[TaskState, ...] = ()
    news: float = 0.0


@dataclass(frozen=True)
class PromptRecord:
    """One version of a tuned prompt, without its tensors.

    Attributes:
        number: of the version, from 1, unique within a project.
        target: `Target.id` of `label_config`.
        label: the target's label when it was made, for people.
        checkpoint: identity of the checkpoint that it was tuned for; it fits no other.
        uses: how predictions use it while it is active, as the gate measured better.
        figures: what the gate measured, by name; None where it was not measured.
        examples: keys of the examples that trained or chose it; empty for an imported one.
        withdrawn: those of `examples` that were withdrawn or corrected while it was tuned.
        created: Unix time, like `activated` (last) and `retired`.
        replaced: number of the prompt that was active before it; None where examples alone were in use.
        reason: why it is what it is, a sentence for people.
    """

    project: str
    number: int
    target: str
    label: str
    checkpoint: str
    status: PromptStatus
    uses: Use
    origin: PromptOrigin
    created: float
    figures: Mapping[str, float | None] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    activated: float | None = None
    retired: float | None = None
    replaced: int | None = None
    reason: str = ""

    @property
    def masks(self) -> int:
        """How many examples it learned from, here or where it was imported from."""
        return len(self.examples) or int(self.figures.get("examples") or 0)


@dataclass(frozen=True)
class TuningRecord:
    """One tuning: what was asked for, how far it is, what came of it.

    Attributes:
        asked_by: what asked for it, a few words for people.
        created: Unix time, like `started` (first), `ended` and `updated`.
        step: updates done, of `steps` at most; 0 of 0 before it started.
        loss: of the last update; None before the first, like `validation_iou` (0 to 1) and `seconds_left`.
        checkpoint: identity of the checkpoint that it works with; "" before it started.
        examples: keys of the examples that it works with, fixed when it starts.
        prompt: number of the version that came of it.
        reason: why it failed, was stopped, or what became of its prompt.
        stop: whether somebody asked it to stop.
    """

    id: int
    project: str
    target: str
    status: TuningStatus
    asked_by: str
    created: float
    started: float | None = None
    ended: float | None = None
    updated: float | None = None
    step: int = 0
    steps: int = 0
    loss: float | None = None
    validation_iou: float | None = None
    seconds_left: float | None = None
    checkpoint: str = ""
    examples: tuple[str, ...] = ()
    prompt: int | None = None
    reason: str = ""
    stop: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ("queued", "running")
