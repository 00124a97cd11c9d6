"""Kept IoU: what annotators left of our predictions, in numbers."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.learner import kept
from backend.store import Approval, KeptIoU, PredictionRecord, Store
from backend.store.pictures import PREDICTION_SIDE, pack_mask
from backend.store.sqlite import SqliteStore
from tests.backend.stage import Stage, blob, brush

KEY = "1.1700000000"
LEFT = np.zeros((40, 60), bool)
LEFT[:, :30] = True
NONE = np.zeros((40, 60), bool)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = SqliteStore(tmp_path / "store.sqlite3")
    yield opened
    opened.close()


def predicted(
    store: Store, at: float, masks: Mapping[str, NDArray[np.bool_]], revision: str = "r1", **fields: Any
) -> None:
    context = fields.pop("context", dict.fromkeys(masks, ("key",)))
    packed = {target: pack_mask(mask, PREDICTION_SIDE) for target, mask in masks.items() if mask.any()}
    store.put_prediction(PredictionRecord(KEY, 5, revision, at, 0.5, context, packed, **fields))


def submitted(at: float) -> Approval:
    text = datetime.fromtimestamp(at, UTC).isoformat()
    return Approval(KEY, 5, 9, "corrected", 1, text, "digest")


def compared(store: Store, masks: Mapping[str, NDArray[np.bool_]], at: float = 1000.0) -> dict[str, float]:
    return {one.target: one.iou for one in kept.compare(store, submitted(at), masks)}


def test_a_task_that_was_never_predicted_has_none(store: Store) -> None:
    assert kept.compare(store, submitted(1000), {"cell": LEFT}) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "iou"),
    [
        (LEFT, LEFT, 1.0),
        (LEFT, ~LEFT, 0.0),
        (LEFT, np.ones((40, 60), bool), 0.5),
        (LEFT, None, 0.0),
        (NONE, LEFT, 0.0),
        (NONE, None, 1.0),
        (NONE, NONE, 1.0),
    ],
    ids=["kept", "moved", "doubled", "removed", "missed", "rightly empty", "rightly empty mask"],
)
def test_it_is_the_iou_of_what_was_predicted_and_what_was_submitted(
    store: Store, ours: NDArray[np.bool_], theirs: NDArray[np.bool_] | None, iou: float
) -> None:
    predicted(store, 900, {"cell": ours})
    assert compared(store, {} if theirs is None else {"cell": theirs}) == {"cell": pytest.approx(iou)}


def test_a_label_that_was_not_predicted_does_not_count(store: Store) -> None:
    predicted(store, 900, {"cell": LEFT})
    assert compared(store, {"cell": LEFT, "debris": ~LEFT}) == {"cell": 1.0}


def test_it_is_measured_at_the_size_of_the_stored_prediction(store: Store) -> None:
    large = np.zeros((800, 1200), bool)
    large[:, :600] = True
    predicted(store, 900, {"cell": large})
    assert compared(store, {"cell": large})["cell"] == 1.0
    shifted = np.roll(large, 120, axis=1)
    shifted[:, :120] = False
    assert compared(store, {"cell": shifted})["cell"] == pytest.approx(480 / 720, abs=0.01)


def test_the_newest_prediction_that_can_have_been_seen_is_compared(store: Store) -> None:
    predicted(store, 800, {"cell": ~LEFT}, "r1")
    predicted(store, 900, {"cell": LEFT}, "r2")
    predicted(store, 1100, {"cell": NONE}, "r3")  # after it was submitted
    (one,) = kept.compare(store, submitted(1000), {"cell": LEFT})
    assert (one.revision, one.iou, one.task, one.annotation) == ("r2", 1.0, 5, 9)


def test_what_was_predicted_after_the_submission_alone_is_not_compared(store: Store) -> None:
    predicted(store, 1100, {"cell": LEFT})
    assert compared(store, {"cell": LEFT}) == {}


def test_where_no_time_is_known_the_newest_is_compared(store: Store) -> None:
    predicted(store, 1100, {"cell": LEFT})
    approval = Approval(KEY, 5, 9, "drawn", None, "", "digest")
    assert [one.iou for one in kept.compare(store, approval, {"cell": LEFT})] == [1.0]


def test_every_submission_of_a_predicted_task_is_recorded_and_a_correction_replaces(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(1)
    image, mask = blob(2)
    task = stage.upload(image)
    stage.predict(task)
    annotation = stage.submit(task, brush(mask, origin="prediction"), parent_prediction=1)
    stage.work()

    def figures() -> list[KeptIoU]:
        return stage.backend.store.kept(stage.key)

    assert [(one.annotation, one.target, one.iou) for one in figures()] == [(annotation, stage.target, 1.0)]
    half = mask & (np.cumsum(mask).reshape(mask.shape) <= mask.sum() // 2)
    stage.correct(annotation, brush(half))
    stage.work()
    assert [one.iou for one in figures()] == [pytest.approx(half.sum() / mask.sum())]
