"""Labels that are not on a picture: known from other labels' pools, learned by the worker, and then not shown."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from backend import absent, dropped, revision
from backend.calibrations import Fitted, read_calibrations, read_fitted, write_calibrations
from backend.predictor import TaskPrediction
from backend.store import KeptIoU, PredictionRecord, Store
from backend.store.pictures import pack_mask
from model.score import Absence, Calibration
from model.segmenter import Query
from tests.backend.stage import Stage, blob, brush
from tests.backend.test_dropped import TWO_LABELS
from tests.backend.test_prompts import add

DEBRIS = "tag/image/debris"
BLUE = [40, 90, 230]
COUNT = 6  # approved pictures of each label


def absences_of(store: Store, project: str, checkpoint: str) -> dict[str, Absence]:
    return (read_fitted(store, project, checkpoint) or Fitted()).absences


def picture(seed: int, label: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A disc: cells are yellow, debris is blue."""
    image, mask = blob(seed)
    if label == "debris":
        image[mask] = BLUE
    return image, mask


def any_disc(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
    """In place of the network: finds every disc, and is surer of it where it has the colour of the examples'."""
    found = []
    for query in queries:
        disc = query.image.max(axis=-1) > 100
        masked = np.concatenate([example.image[example.mask] for example in query.context.examples])
        alike = np.abs(query.image[disc].mean(axis=0) - masked.mean(axis=0)).max() < 30
        found.append(np.where(disc, 0.95 if alike else 0.6, 0.0).astype(np.float32))
    return found


def approve(stage: Stage, seed: int, *labels: str) -> int:
    """Approve a disc as each of the labels; returns the task."""
    image, mask = picture(seed, labels[0])
    task = stage.upload(image)
    stage.submit(task, *(brush(mask, label) for label in labels))
    stage.work()
    return task


def predict(stage: Stage, task: int) -> TaskPrediction:
    snapshot = revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)
    return stage.backend.predictor.predict(snapshot, [stage.label_studio.tasks[task]]).done[task]


def shown(prediction: TaskPrediction) -> list[str]:
    return [region["value"]["brushlabels"][0] for region in prediction.result]


def rules(stage: Stage) -> dict[str, Absence]:
    return absences_of(stage.backend.store, stage.key, stage.backend.checkpoint)


def prepared(stage: Stage) -> Stage:
    """Two labels, never on one picture, all approved by turns."""
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    stage.setup()
    stage.segment_with(any_disc)
    for seed in range(2 * COUNT):
        approve(stage, seed, ("cell", "debris")[seed % 2])
    return stage


@pytest.fixture
def learned(stage: Stage) -> Stage:
    return prepared(stage)


# -- what is shown -------------------------------------------------------------------------------------------------
def test_a_label_that_is_not_there_is_shown_until_the_worker_has_measured_and_then_no_more(
    learned: Stage,
) -> None:
    asked = [learned.upload(picture(seed, "debris")[0]) for seed in (40, 41)]
    assert shown(predict(learned, asked[0])) == ["cell", "debris"]
    learned.backend.alarm.measure(learned.key)
    after = predict(learned, asked[1])
    assert shown(after) == ["debris"]
    record = learned.backend.store.predictions(learned.key, asked[1])[0]
    assert set(record.context) == {learned.target, DEBRIS}, (
        "that it is not there was predicted by examples, too"
    )
    assert set(record.masks) == {DEBRIS}
    rule = rules(learned)[learned.target]
    curve = (read_calibrations(learned.backend.store, learned.key, learned.backend.checkpoint) or {})[DEBRIS]
    assert after.score == pytest.approx((rule.score + curve(0.95)) / 2, abs=1e-4)


def test_by_the_setting_every_mask_is_shown(staging: Callable[..., Stage]) -> None:
    stage = prepared(staging(hide_absent="off"))
    stage.backend.alarm.measure(stage.key)
    assert rules(stage)[stage.target] != Absence()
    assert shown(predict(stage, stage.upload(picture(40, "debris")[0]))) == ["cell", "debris"]


def test_in_a_project_with_one_label_nothing_is_hidden(stage: Stage) -> None:
    stage.segment_with(any_disc)
    for seed in range(COUNT):
        stage.approve(seed)
    stage.backend.alarm.measure(stage.key)
    assert rules(stage) == {stage.target: Absence()}
    assert shown(predict(stage, stage.upload(picture(40, "debris")[0]))) == ["cell"]


def test_with_a_tuned_prompt_in_use_nothing_is_hidden(learned: Stage) -> None:
    store, backend = learned.backend.store, learned.backend
    hiding = {learned.target: Absence(1.0, 0.5), DEBRIS: Absence(1.0, 0.5)}
    write_calibrations(store, learned.key, backend.checkpoint, {}, hiding)
    add(learned, activate=True, uses="both")
    assert shown(predict(learned, learned.upload(picture(40, "cell")[0]))) == ["cell"]


@pytest.mark.parametrize(("drawn", "kept"), [(True, 0.0), (False, 1.0)], ids=["was there", "was not there"])
def test_what_was_hidden_counts_as_missed_where_it_is_drawn_and_as_right_where_it_is_not(
    learned: Stage, drawn: bool, kept: float
) -> None:
    learned.backend.alarm.measure(learned.key)
    image, mask = picture(40, "debris")
    task = learned.upload(image)
    predict(learned, task)
    learned.submit(task, brush(mask, "debris"), *([brush(mask, "cell")] if drawn else []))
    learned.work()
    ious = {one.target: one.iou for one in learned.backend.store.kept(learned.key) if one.task == task}
    assert ious == {learned.target: kept, DEBRIS: 1.0}


def test_how_often_nothing_was_rightly_shown_does_not_raise_the_scores_of_masks(learned: Stage) -> None:
    """Twenty masks kept to a fifth, and after them thirty pictures on which rightly nothing was shown."""
    store, target = learned.backend.store, learned.target
    disc = pack_mask(blob(1)[1])
    for number in range(50):
        task, poor = 1000 + number, number < 20
        store.put_prediction(
            PredictionRecord(
                learned.key,
                task,
                "r1",
                float(number),
                0.5,
                {target: ("key",)},
                {target: disc} if poor else {},
            )
        )
        iou = 0.2 if poor else 1.0
        store.add_kept([KeptIoU(learned.key, task, task, target, "r1", iou, float(number))])
    learned.backend.alarm.measure(learned.key)
    curve = (read_calibrations(store, learned.key, learned.backend.checkpoint) or {})[target]
    assert curve(0.95) < 0.6


# -- what is kept --------------------------------------------------------------------------------------------------
def test_rules_are_kept_beside_the_calibrations_and_belong_to_their_checkpoint(stage: Stage) -> None:
    store, rule = stage.backend.store, Absence(0.4, 0.9)
    write_calibrations(store, "1.1", "one-1a2b3c4d", {"a": Calibration(1.0, 2.0)}, {"a": rule})
    assert absences_of(store, "1.1", "one-1a2b3c4d") == {"a": rule}
    assert read_calibrations(store, "1.1", "one-1a2b3c4d") == {"a": Calibration(1.0, 2.0)}
    assert absences_of(store, "1.1", "two-1a2b3c4d") == absences_of(store, "2.2", "one-1a2b3c4d") == {}


def test_notes_of_an_earlier_version_hide_nothing(stage: Stage) -> None:
    store = stage.backend.store
    store.set_note("scores:1.1", json.dumps({"checkpoint": "one", "curves": {"a": [1.0, 2.0]}}))
    assert absences_of(store, "1.1", "one") == {}
    assert read_calibrations(store, "1.1", "one") == {"a": Calibration(1.0, 2.0)}


# -- on which pictures a label is not --------------------------------------------------------------------------------
def without(stage: Stage, target: str) -> tuple[set[int], int]:
    """Tasks that lack a target, and how many hold it."""
    store = stage.backend.store
    lacking, held = absent.split(store, revision.take(store, stage.key, stage.backend.checkpoint), target)
    assert [info.key for info in lacking] == sorted(info.key for info in lacking)
    return {info.task for info in lacking}, held


@pytest.fixture
def two(stage: Stage) -> Stage:
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    stage.setup()
    return stage


def test_a_picture_lacks_a_label_if_another_was_approved_on_it_since_that_one_first_was(two: Stage) -> None:
    before = approve(two, 0, "debris")
    both = approve(two, 1, "cell", "debris")
    after = approve(two, 2, "debris")
    alone = approve(two, 3, "cell")
    assert without(two, two.target) == ({after}, 2)
    assert without(two, DEBRIS) == ({alone}, 3)
    assert {before, both} <= {info.task for info in two.backend.store.pool(two.key, DEBRIS)}


def test_what_another_annotator_marked_there_is_not_missing(two: Stage) -> None:
    approve(two, 0, "cell")
    task = approve(two, 1, "debris")
    two.submit(task, brush(blob(1)[1]))
    two.work()
    assert without(two, two.target) == (set(), 2)


def test_a_mask_that_was_taken_out_of_use_is_still_there(two: Stage) -> None:
    approve(two, 0, "cell")
    task = approve(two, 1, "cell", "debris")
    store = two.backend.store
    (key,) = [info.key for info in store.pool(two.key, two.target) if info.task == task]
    dropped.drop(store, two.key, [key])
    assert without(two, two.target) == (set(), 2)


def test_a_mask_that_left_a_full_pool_is_still_there(staging: Callable[..., Stage]) -> None:
    """Debris is on few pictures, so its pool keeps them while cells come and go."""
    stage = staging(pool_size=2)
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    stage.setup()
    first = approve(stage, 0, "cell", "debris")
    lacking = approve(stage, 1, "debris")
    for seed in range(2, 6):
        approve(stage, seed, "cell")
    store = stage.backend.store
    assert first not in {info.task for info in store.pool(stage.key, stage.target)}
    assert {info.task for info in store.pool(stage.key, DEBRIS)} == {first, lacking}
    assert without(stage, stage.target) == (set(), 3), "of the other one it is not known any more"
    assert store.note(f"left:{stage.key}:{stage.target}") == json.dumps([first]), "others lie in no pool"


def test_labels_of_another_image_tag_say_nothing(two: Stage) -> None:
    two.label_studio.projects[two.project]["label_config"] = TWO_LABELS.replace(
        "</View>",
        '<Image name="other" value="$image"/><BrushLabels name="more" toName="other"><Label value="cell"/>'
        "</BrushLabels></View>",
    )
    two.setup()
    approve(two, 0, "cell")
    task = approve(two, 1, "debris")
    assert without(two, two.target) == ({task}, 1)
    assert without(two, "more/other/cell") == (set(), 0)
    assert without(two, "tag/image/gone") == (set(), 0)
