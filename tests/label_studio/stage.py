"""Words for the tests against a real Label Studio: the running parts and one project with drawn pictures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import httpx
import numpy as np
import numpy.typing as npt

from backend import label_config, regions
from backend.demo.pictures import LABELS, Picture
from backend.demo.process import ManagedProcess
from backend.demo.session import Session, brush_region

PATIENCE_SECONDS = 240.0
ANSWER_SECONDS = 240.0  # for one answer of a machine that may stand still for half a minute
# The backend looks for silent changes at its leisure: twenty times as long after an export as one usually takes. Each
# counts as twice the usual at most, or as a second, however long the machine stood still.
WITHOUT_EVENT_SECONDS = 600.0
PATIENT = {"WEBHOOK_TIMEOUT": "60", "ML_TIMEOUT_PREDICT": "200"}
"""Settings of Label Studio: once something is submitted, the backend has its event; what it is asked it may answer late."""
Seen = TypeVar("Seen")
Mask = npt.NDArray[np.bool_]


def eventually(look: Callable[[], Seen], what: str, seconds: float = PATIENCE_SECONDS) -> Seen:
    """Look until the answer is true and return it; fails, telling the last answer, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}; last seen: {seen!r}"
        time.sleep(0.25)
    return seen


@dataclass(frozen=True)
class RunningLabelStudio:
    """A real Label Studio as its default install is (legacy tokens refused), and its only user."""

    url: str
    session: Session
    personal_token: str
    legacy_token: str


@dataclass(frozen=True)
class RunningBackend:
    """`python -m backend serve` as a process."""

    url: str
    process: ManagedProcess

    def get(self, path: str, **parameters: Any) -> Any:
        """JSON of the admin API."""
        answer = httpx.get(self.url + path, params=parameters, timeout=ANSWER_SECONDS, trust_env=False)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def metrics(self) -> str:
        """What Prometheus would read."""
        answer = httpx.get(self.url + "/metrics", timeout=ANSWER_SECONDS, trust_env=False)
        assert answer.is_success
        return answer.text

    def has_worked_on_all_events(self) -> bool:
        """Whether no event waits: each is gone only after all that follows from it, such as another version."""
        return "\nseggpt_pending_events 0.0\n" in self.metrics()


class Stage:
    """One project of a real Label Studio, connected to a backend, with drawn pictures as tasks."""

    def __init__(self, session: Session, backend: RunningBackend, project: dict[str, Any]) -> None:
        self.session = session
        self.backend = backend
        self.id = int(project["id"])
        created = datetime.fromisoformat(project["created_at"])
        self.key = f"{self.id}.{int(created.timestamp())}"
        self.pictures: dict[int, Picture] = {}
        self.connection = 0

    def upload(self, pictures: Sequence[Picture]) -> list[int]:
        """Upload pictures; returns their task ids."""
        tasks = self.session.upload(self.id, {picture.name: picture.png() for picture in pictures})
        assert len(tasks) == len(pictures)
        self.pictures.update(zip(tasks, pictures, strict=True))
        return tasks

    def connect(self) -> None:
        """Connect the backend, as Settings > Model does."""
        self.connection = self.session.connect(self.id, self.backend.url)

    # -- what the annotator does ---------------------------------------------------------------------------------
    def approve(self, task: int, labels: Sequence[str] = LABELS, **fields: Any) -> int:
        """Submit the true masks of some labels; returns the annotation."""
        return self.session.submit(task, self.truth(task, labels), **fields)

    def truth(self, task: int, labels: Sequence[str] = LABELS) -> list[dict[str, Any]]:
        """Regions of the true masks."""
        return [brush_region(self.pictures[task].masks[label], label) for label in labels]

    # -- what the backend knows ----------------------------------------------------------------------------------
    def examples(self) -> list[dict[str, Any]]:
        """The examples in the backend's pools of this project; none while it does not know the project."""
        if self.key not in {project["project"] for project in self.backend.get("/api/projects")}:
            return []
        return list(self.backend.get(f"/api/projects/{self.key}/examples"))

    def taught(self) -> set[tuple[int, str]]:
        """Which (annotation, label) have an example now."""
        return {(int(example["annotation"]), str(example["label"])) for example in self.examples()}

    def wait_taught(self, *expected: tuple[int, str], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until exactly these (annotation, label) have an example; the version moves a moment later."""
        eventually(lambda: self.taught() == set(expected), f"examples of exactly {expected}", seconds)

    def version(self) -> str:
        """The `model_version` that Label Studio learns by looking at the backend; after a vain look it has an old one."""

        def looked() -> dict[str, Any]:
            row = next(row for row in self.session.backends(self.id) if row["id"] == self.connection)
            return row if row["state"] == "CO" else {}

        return str(eventually(looked, "Label Studio's look at the backend")["model_version"])

    def wait_version_after(self, old: str) -> str:
        """Wait for another version than `old`; returns it."""
        return eventually(
            lambda: version if (version := self.version()) != old else "", f"a version after {old}"
        )

    def wait_kept(self, count: int) -> dict[str, Any]:
        """Wait until so many kept IoUs are there; returns their count and mean. They come after the example."""

        def look() -> dict[str, Any]:
            found: dict[str, Any] = self.backend.get(f"/api/projects/{self.key}")["kept_iou"]
            return found if found["count"] == count else {}

        return eventually(look, f"{count} kept IoUs")

    # -- predictions ---------------------------------------------------------------------------------------------
    def current(self, task: int) -> list[dict[str, Any]]:
        """Predictions of the current version that Label Studio holds for a task."""
        version = self.version()
        return [found for found in self.session.predictions(task) if found["model_version"] == version]

    def wait_predicted(
        self, *tasks: int, where: Callable[[dict[str, Any]], bool] = lambda prediction: True
    ) -> dict[int, dict[str, Any]]:
        """Wait until each task has its prediction of the current version, and one only, for which `where` holds.

        `where` is needed where an earlier version has predicted the tasks too: it may be the current one for a while.
        """
        found: dict[int, list[dict[str, Any]]] = {}

        def one_each() -> bool:  # of one look, since the version may move between two
            found.update({task: self.current(task) for task in tasks})
            one = [len(each) for each in found.values()] == [1] * len(tasks)
            return one and all(where(prediction) for (prediction,) in found.values())

        try:
            eventually(one_each, f"one prediction of each of the tasks {tasks}")
        except AssertionError as error:
            there = {task: [one["model_version"] for one in self.session.predictions(task)] for task in tasks}
            raise AssertionError(f"{error}; of {self.version()} wanted, there are {there}") from None
        return {task: each[0] for task, each in found.items()}

    def mask(self, task: int, result: Sequence[dict[str, Any]], label: str) -> Mask:
        """The mask of a label in a result, empty where there is none."""
        config = label_config.parse(self.session.project(self.id)["label_config"])
        target = next(target for target in config.targets if target.label == label)
        mask = regions.decode(result, target)
        return np.zeros_like(self.pictures[task].masks[LABELS[0]]) if mask is None else mask

    def iou(self, task: int, prediction: dict[str, Any], label: str) -> float:
        """IoU of a prediction with the truth."""
        mask, truth = self.mask(task, prediction["result"], label), self.pictures[task].masks[label]
        return float((mask & truth).sum() / (mask | truth).sum())


def labels_of(prediction: dict[str, Any]) -> set[str]:
    """The labels that a prediction (or annotation) has regions of."""
    return {label for region in prediction["result"] for label in region["value"].get("brushlabels", ())}
