"""The scripted first look: approve three drawn masks, wait for the others to be predicted, compare with the truth."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from backend import label_config, regions
from backend.demo.pictures import LABELS, Picture
from backend.demo.session import Session, brush_region, name_of_upload
from backend.errors import RegionError

APPROVED = 3
POLL_SECONDS = 1.0
LEARN_SECONDS = 20.0
PREDICT_SECONDS = 600.0


@dataclass(frozen=True)
class Row:
    """What became of one picture.

    Attributes:
        task: Label Studio's task id.
        name: the picture's file name.
        state: "approved", "predicted" or "waiting".
        ious: IoU with the truth, 0 to 1, for each label; empty unless predicted.
        score: what the backend expected, 0 to 1; None unless predicted.
    """

    task: int
    name: str
    state: str
    ious: Mapping[str, float]
    score: float | None = None


class FirstLook:
    """The demo project, seen by the person who owns it."""

    def __init__(self, session: Session, project: int, backend: int, pictures: list[Picture]) -> None:
        self._session = session
        self._project = project
        self._backend = backend
        self._pictures = {picture.name: picture for picture in pictures}

    def missing(self) -> list[Picture]:
        """Pictures that the project has no task for."""
        there = {name for name, _ in self._tasks()}
        return [picture for name, picture in self._pictures.items() if name not in there]

    def version(self) -> str:
        """The backend's current `model_version`, as Label Studio learns it by looking."""
        found = next(row for row in self._session.backends(self._project) if row["id"] == self._backend)
        return str(found["model_version"] or "")

    def approve(self, say: Callable[[str], None]) -> int:
        """Submit the true masks of the first pictures that nobody annotated yet; returns how many that were."""
        tasks = dict(self._tasks())
        approved = 0
        for name, picture in list(self._pictures.items())[:APPROVED]:
            task = tasks.get(name)
            if task is None or task["total_annotations"] or task["cancelled_annotations"]:
                continue
            before = self.version()
            self._session.submit(task["id"], [brush_region(picture.masks[label], label) for label in LABELS])
            approved += 1
            say(f"Approved the masks of {name}; the backend is now at {self._moved(before)}.")
        return approved

    def wait(self, report: Callable[[int, int], None], seconds: float = PREDICT_SECONDS) -> list[Row]:
        """Wait until each task without an annotation has a prediction of the current version.

        Args:
            report: told how many are predicted, and of how many, at each look.
            seconds: after which it gives up and returns the rows as they are.
        """
        deadline = time.monotonic() + seconds
        while True:
            version = self.version()
            rows = [self._row(name, task, version) for name, task in self._tasks()]
            open_rows = [row for row in rows if row.state != "approved"]
            predicted = sum(row.state == "predicted" for row in open_rows)
            report(predicted, len(open_rows))
            if predicted == len(open_rows) or time.monotonic() > deadline:
                return rows
            time.sleep(POLL_SECONDS)

    def _moved(self, before: str) -> str:
        """The version after an approval, once it differs; the same one where it does not move in time."""
        deadline = time.monotonic() + LEARN_SECONDS
        while (version := self.version()) == before and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 5)
        return version

    def _tasks(self) -> list[tuple[str, dict[str, Any]]]:
        """The project's tasks that show one of the pictures, with its name; others are somebody else's."""
        found = []
        for task in self._session.tasks(self._project):
            name = name_of_upload(task)
            if name in self._pictures:
                found.append((name, task))
        return found

    def _row(self, name: str, task: Mapping[str, Any], version: str) -> Row:
        number = int(task["id"])
        if task["total_annotations"] or task["cancelled_annotations"]:
            return Row(number, name, "approved", {})
        current = [found for found in task["predictions"] if found["model_version"] == version]
        if not current:
            return Row(number, name, "waiting", {})
        prediction = current[-1]
        ious = self._ious(prediction["result"], self._pictures[name])
        return Row(number, name, "predicted", ious, prediction["score"])

    def _ious(self, result: list[dict[str, Any]], picture: Picture) -> dict[str, float]:
        from model.evaluation import iou  # here, since it may bring torch along

        config = label_config.parse(self._session.project(self._project)["label_config"])
        targets = {target.label: target for target in config.targets}
        ious = {}
        for label, truth in picture.masks.items():
            mask: npt.NDArray[np.bool_] | None = None
            if label in targets:
                try:
                    mask = regions.decode(result, targets[label])
                except RegionError:
                    mask = None
            ious[label] = iou(np.zeros_like(truth) if mask is None else mask, truth)
        return ious


def mean_ious(rows: list[Row]) -> dict[str, float]:
    """Mean IoU of each label over the predicted rows; empty where there are none."""
    predicted = [row.ious for row in rows if row.state == "predicted"]
    if not predicted:
        return {}
    return {label: float(np.mean([ious[label] for ious in predicted])) for label in LABELS}


def table(rows: list[Row]) -> Table:
    """The rows for people, with the means below."""
    means = mean_ious(rows)
    drawn = Table(title="IoU of the predicted masks with the true ones", show_footer=bool(means))
    drawn.add_column("task", justify="right")
    drawn.add_column("picture", footer="mean")
    drawn.add_column("state")
    for label in LABELS:
        drawn.add_column(label, justify="right", footer=f"{means[label]:.2f}" if means else "")
    drawn.add_column("score", justify="right")
    for row in rows:
        ious = [f"{row.ious[label]:.2f}" if label in row.ious else "" for label in LABELS]
        score = "" if row.score is None else f"{row.score:.2f}"
        drawn.add_row(str(row.task), row.name, row.state, *ious, score)
    return drawn
