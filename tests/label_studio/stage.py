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
WITHOUT_EVENT_SECONDS = (
    180.0  # the backend looks for silent changes at its leisure, the slower the export the rarer
)
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
        answer = httpx.get(self.url + path, params=parameters, timeout=30, trust_env=False)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def metrics(self) -> str:
        """What Prometheus would read."""
        answer = httpx.get(self.url + "/metrics", timeout=30, trust_env=False)
        assert answer.is_success
        return answer.text


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
        """Wait until exactly these (annotation, label) have an example."""
        eventually(lambda: self.taught() == set(expected), f"examples of exactly {expected}", seconds)

    def version(self) -> str:
        """The `model_version` that Label Studio learns by looking at the backend."""
        rows = self.session.backends(self.id)
        return str(next(row["model_version"] for row in rows if row["id"] == self.connection))

    # -- predictions ---------------------------------------------------------------------------------------------
    def current(self, task: int) -> list[dict[str, Any]]:
        """Predictions of the current version that Label Studio holds for a task."""
        version = self.version()
        return [found for found in self.session.predictions(task) if found["model_version"] == version]

    def wait_predicted(self, *tasks: int) -> dict[int, dict[str, Any]]:
        """Wait until each task has its prediction of the current version, and one only."""
        found: dict[int, list[dict[str, Any]]] = {}

        def one_each() -> bool:  # of one look, since the version may move between two
            found.update({task: self.current(task) for task in tasks})
            return [len(each) for each in found.values()] == [1] * len(tasks)

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
