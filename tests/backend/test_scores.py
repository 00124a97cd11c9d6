"""Scores of predictions: calibrated by the worker's measuring; and pictures that are like nothing approved."""

from collections.abc import Callable

import numpy as np
import pytest

from backend import revision
from backend.calibrations import read_calibrations, write_calibrations
from backend.predictor import TaskPrediction
from backend.predictor.predictor import UNLIKE
from backend.store import KeptIoU
from model.score import Calibration
from tests.backend.stage import Stage, blob, brush


def predict(stage: Stage, task: int) -> TaskPrediction:
    snapshot = revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)
    return stage.backend.predictor.predict(snapshot, [stage.label_studio.tasks[task]]).done[task]


def raw_of(seed: int) -> float:
    """What `by_colour` says of a blob, before any calibration."""
    _, mask = blob(seed)
    return float(mask.sum() * 0.9 / (mask.sum() + (~mask).sum() * 0.05))


@pytest.fixture
def learned(stage: Stage) -> Stage:
    """Six approved blobs, and a network that finds blobs exactly."""
    stage.segment_by_colour()
    for seed in range(6):
        stage.approve(seed)
    return stage


# -- what measuring an example brings ------------------------------------------------------------------------------
def test_what_each_example_is_worth_to_the_others_is_kept_with_it(learned: Stage) -> None:
    store = learned.backend.store
    assert {info.score for info in store.pool(learned.key)} == {None}
    learned.backend.alarm.measure(learned.key)
    findings = learned.backend.alarm.findings(learned.key).by_key
    assert {info.key: info.score for info in store.pool(learned.key)} == {
        key: finding.finds for key, finding in findings.items()
    }


def test_a_wrong_mask_that_was_measured_is_no_longer_chosen(staging: Callable[..., Stage]) -> None:
    """It lies on the very picture that is asked about, so by likeness alone it is the first to be taken."""
    stage = staging(shots=1)
    stage.segment_by_colour()
    for seed in range(5):
        stage.approve(seed)
    image, mask = blob(9)
    wrong = stage.submit(stage.upload(image), brush(~mask))
    stage.work()
    (task,) = stage.blobs(1, first=9)
    annotations = {info.key: info.annotation for info in stage.backend.store.pool(stage.key)}

    def used() -> list[int]:
        predict(stage, task)
        record = stage.backend.store.predictions(stage.key, task)[0]
        return [annotations[key] for key in record.context[stage.target]]

    assert used() == [wrong]
    stage.backend.alarm.measure(stage.key)
    assert used() != [wrong]


# -- calibration ---------------------------------------------------------------------------------------------------
def test_a_network_that_is_shy_but_right_gets_the_scores_that_it_earns(learned: Stage) -> None:
    (task,) = learned.blobs(1, first=20)
    before = predict(learned, task).score
    assert before == pytest.approx(raw_of(20), rel=1e-4)
    learned.backend.alarm.measure(learned.key)
    (curve,) = (
        read_calibrations(learned.backend.store, learned.key, learned.backend.checkpoint) or {}
    ).values()
    (again,) = learned.blobs(1, first=20)
    after = predict(learned, again).score
    assert after == pytest.approx(curve(before))
    assert after > before + 0.05


def test_what_annotators_kept_lately_sets_the_level(learned: Stage) -> None:
    store, (task,) = learned.backend.store, learned.blobs(1, first=20)
    learned.backend.alarm.measure(learned.key)
    measured = predict(learned, task).score
    store.add_kept(
        KeptIoU(learned.key, number, number, learned.target, "r", 0.2, float(number)) for number in range(20)
    )
    learned.backend.alarm.measure(learned.key)
    (again,) = learned.blobs(1, first=20)
    assert predict(learned, again).score < measured - 0.2


def test_calibrations_of_another_checkpoint_are_not_used_and_measuring_is_due_again(learned: Stage) -> None:
    backend = learned.backend
    backend.alarm.measure(learned.key)
    assert not backend.alarm.is_due(learned.key)
    write_calibrations(
        backend.store, learned.key, "another-1a2b3c4d", {learned.target: Calibration(-5.0, 1.0)}
    )
    assert backend.alarm.is_due(learned.key)
    (task,) = learned.blobs(1, first=20)
    assert predict(learned, task).score == pytest.approx(raw_of(20), rel=1e-4)


def test_that_nothing_is_there_is_not_calibrated(learned: Stage) -> None:
    backend = learned.backend
    write_calibrations(
        backend.store, learned.key, backend.checkpoint, {learned.target: Calibration(-5.0, 1.0)}
    )
    task = learned.upload(np.full((48, 64, 3), 40, np.uint8))
    prediction = predict(learned, task)
    assert prediction.result == []
    assert prediction.score == pytest.approx(0.95)


def test_where_all_that_is_found_are_specks_nothing_is_shown_and_the_score_is_that_of_nothing(
    staging: Callable[..., Stage],
) -> None:
    """Nothing was shown, with the score that the specks would have been kept with."""
    stage = staging(min_area=0.5)
    stage.segment_by_colour()
    stage.approve(1)
    (task,) = stage.blobs(1, first=20)
    prediction = predict(stage, task)
    assert prediction.result == []
    assert prediction.score == pytest.approx(1 - 0.9)


# -- like nothing approved yet -------------------------------------------------------------------------------------
def test_a_picture_like_nothing_approved_is_told(learned: Stage) -> None:
    for seed in range(6, 10):
        learned.approve(seed)
    image, mask = blob(20)
    strange = image.copy()
    strange[~mask] = [0, 90, 160]  # a blue sea, and the same disc
    asked = {"usual": learned.upload(image), "strange": learned.upload(strange)}
    found = {name: predict(learned, task) for name, task in asked.items()}
    (usual,), (other,) = (found[name].result for name in ("usual", "strange"))
    assert "text" not in usual["meta"]
    assert other["meta"] == {**usual["meta"], "text": [UNLIKE]}
    assert other["value"] == usual["value"]


def test_of_a_few_approved_pictures_nobody_says_that_another_is_unlike_them(learned: Stage) -> None:
    image, mask = blob(20)
    image[~mask] = [0, 90, 160]
    (region,) = predict(learned, learned.upload(image)).result
    assert "text" not in region["meta"]
