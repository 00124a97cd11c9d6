"""Kept IoU: what annotators left of our predictions, in numbers."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.learner import kept
from backend.store import Approval, KeptIoU, PredictionRecord, PromptRecord, Store
from backend.store.pictures import PREDICTION_SIDE, pack_mask
from backend.store.sqlite import SqliteStore
from backend.store.tensors import PromptCard, PromptFile, pack_prompt
from model.segmenter import Query
from tests.backend.stage import Stage, blob, brush, by_colour

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


def test_a_thin_mask_of_a_large_picture_that_is_left_as_it_is_is_kept_entirely(store: Store) -> None:
    """Its stored copy keeps the pixels that it fills most, while the submitted one vanished: 0, though nothing was changed."""
    thin = np.zeros((3000, 4000), bool)
    thin[1000:1003, 100:3900] = True
    predicted(store, 900, {"cell": thin})
    assert compared(store, {"cell": thin})["cell"] == 1.0
    longer = thin.copy()
    longer[1000:1003, :100] = True
    assert compared(store, {"cell": longer})["cell"] == pytest.approx(3800 / 3900, abs=0.01)
    assert compared(store, {"cell": np.roll(thin, 1000, axis=0)})["cell"] == 0.0


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


# -- a version that was rolled back --------------------------------------------------------------------------------
@pytest.fixture
def rolled_back(stage: Stage) -> Stage:
    """Task 2 was predicted by examples, then, with nothing found, by a prompt that has been rolled back since."""

    def segment(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        by_prompt = queries[0].context.prompt is not None
        return (
            [np.full(q.image.shape[:2], 0.1, np.float32) for q in queries]
            if by_prompt
            else by_colour(queries)
        )

    stage.segment_with(segment)
    stage.approve(1)
    assert stage.predict(stage.upload(blob(2)[0]))[0]["result"]
    tensor = np.zeros((3, 64, 64), np.float32)
    card = PromptCard(
        checkpoint=stage.backend.checkpoint, label="cell", kind="brush", uses="prompt", examples=8,
        figures={"gain": 0.1, "incumbent_iou": None}, created="2026-11-28",
    )  # fmt: skip
    version = PromptRecord(
        project=stage.key, number=0, target=stage.target, label="cell", checkpoint=stage.backend.checkpoint,
        status="candidate", uses="prompt", origin="tuned", created=1.0, reason="made by a test",
    )  # fmt: skip
    stage.backend.store.prompts.add_prompt(
        version, pack_prompt(PromptFile(tensor, tensor, card)), activate=True
    )
    assert not stage.predict(2)[0]["result"]
    stage.backend.prompts.roll_back(stage.key)
    return stage


def kept_of(stage: Stage, parent: int) -> list[tuple[str, float]]:
    """Submit what the examples found on task 2, from a prediction that Label Studio made of an answer of ours."""
    stage.submit(2, brush(blob(2)[1], origin="prediction"), parent_prediction=parent)
    stage.work()
    return [(one.revision, one.iou) for one in stage.backend.store.kept(stage.key)]


def test_what_is_answered_again_after_a_roll_back_is_what_annotators_saw(rolled_back: Stage) -> None:
    """The answer was kept in memory, and its record stayed older than that of the prompt, which nobody saw any more."""
    version = rolled_back.setup()
    assert rolled_back.predict(2)[0]["result"]
    assert kept_of(rolled_back, rolled_back.predicted_by(2, version)) == [(version, 1.0)]


def test_an_answer_kept_in_memory_whose_record_is_gone_is_made_again(rolled_back: Stage) -> None:
    version, store = rolled_back.setup(), rolled_back.backend.store
    assert store.drop_superseded(rolled_back.key, time.time()) == 1
    assert rolled_back.predict(2)[0]["result"]
    assert kept_of(rolled_back, rolled_back.predicted_by(2, version)) == [(version, 1.0)]


def test_what_label_studio_is_left_with_after_a_roll_back_is_what_annotators_saw(rolled_back: Stage) -> None:
    """It held both, as replies: the pass took the newer one away, and nothing was to be predicted."""
    version = rolled_back.setup()
    number = rolled_back.predicted_by(2, version)
    rolled_back.predicted_by(2, f"{version}-p1")
    rolled_back.backend.pre_annotation.step(rolled_back.key)
    assert set(rolled_back.label_studio.stored_predictions) == {number}
    assert kept_of(rolled_back, number) == [(version, 1.0)]


def test_until_something_else_is_shown_the_newest_is_what_annotators_saw(rolled_back: Stage) -> None:
    version = f"{rolled_back.setup()}-p1"
    assert kept_of(rolled_back, rolled_back.predicted_by(2, version)) == [(version, 0.0)]
