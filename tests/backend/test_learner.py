"""What teaches, what stops teaching, and when the revision moves: through webhook, worker and export."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backend.errors import StoreError
from backend.store.pictures import unpack_image, unpack_mask
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import Stage, blob, brush, example_of, half, mask_of, mask_taught, now, reconcile

DEBRIS = LABEL_CONFIG.replace('<Label value="cell"/>', '<Label value="cell"/><Label value="debris"/>')


# -- approvals teach -----------------------------------------------------------------------------------------------
def test_an_approved_mask_is_used_by_the_very_next_prediction(stage: Stage) -> None:
    stage.segment_by_colour()
    image, mask = blob(50)
    task = stage.upload(image)
    assert stage.predict(task) == [[]]
    stage.approve(1)
    (prediction,) = stage.predict(task)
    assert (mask_of(prediction["result"][0]) == mask).all()


def test_an_example_holds_the_image_and_the_mask_as_they_were_approved(stage: Stage) -> None:
    annotation = stage.approve(1, completed_by=4)
    image, mask = blob(1)
    stored = example_of(stage, annotation)
    assert (unpack_image(stored.image) == image).all()
    assert (unpack_mask(stored.mask) == mask).all()
    assert (stored.info.kind, stored.info.annotator, stored.info.target) == ("drawn", 4, stage.target)
    assert stored.info.area == pytest.approx(mask.mean())


@pytest.mark.parametrize("control", ["PolygonLabels", "RectangleLabels", "EllipseLabels"])
def test_polygons_rectangles_and_ellipses_teach_like_masks(stage: Stage, control: str) -> None:
    stage.label_studio.projects[stage.project]["label_config"] = LABEL_CONFIG.replace("BrushLabels", control)
    values: dict[str, dict[str, Any]] = {
        "PolygonLabels": {"points": [[25, 25], [75, 25], [75, 75], [25, 75]], "closed": True},
        "RectangleLabels": {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0},
        "EllipseLabels": {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "rotation": 0},
    }
    region = {
        **brush(np.zeros((48, 64), bool)), "type": control.lower(),
        "value": {**values[control], control.lower(): ["cell"]},
    }  # fmt: skip
    annotation = stage.submit(stage.upload(blob(1)[0]), region)
    stage.work()
    mask = mask_taught(stage, annotation)
    assert mask[24, 32]
    assert not mask[6, 8]
    assert mask.mean() == pytest.approx(np.pi / 16 if control == "EllipseLabels" else 1 / 4, rel=0.1)


def test_each_label_of_an_annotation_teaches_its_own_target(stage: Stage) -> None:
    stage.label_studio.projects[stage.project]["label_config"] = DEBRIS
    image, mask = blob(1)
    stage.submit(stage.upload(image), brush(mask), brush(~mask, "debris"))
    stage.work()
    targets = {info.target: info.area for info in stage.backend.store.pool(stage.key)}
    assert targets == {
        "tag/image/cell": pytest.approx(mask.mean()), "tag/image/debris": pytest.approx((~mask).mean())
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "origins", "kind"),
    [
        ({}, ["manual"], "drawn"),
        ({"parent_prediction": 3}, ["prediction"], "accepted"),
        ({}, ["prediction"], "accepted"),
        ({}, ["prediction-changed"], "corrected"),
        ({"parent_prediction": 3}, ["prediction", "manual"], "corrected"),
    ],
    ids=["drawn", "accepted", "accepted, parent gone", "corrected", "drawn beside"],
)
def test_drawn_corrected_and_accepted_masks_are_all_examples(
    stage: Stage, fields: Any, origins: list[str], kind: str
) -> None:
    image, mask = blob(1)
    regions = [brush(mask, origin=origin, id=origin) for origin in origins]
    annotation = stage.submit(stage.upload(image), *regions, **fields)
    stage.work()
    assert example_of(stage, annotation).info.kind == kind


# -- what does not teach -------------------------------------------------------------------------------------------
def test_a_skip_teaches_nothing_and_withdraws_what_was_approved(stage: Stage) -> None:
    image, mask = blob(1)
    stage.submit(stage.upload(image), brush(mask), was_cancelled=True)
    stage.work()
    assert stage.pool == []
    approved = stage.approve(2)
    stage.correct(approved, brush(blob(2)[1]), was_cancelled=True)
    stage.work()
    assert stage.pool == []


def test_an_empty_submission_is_an_approval_without_examples(stage: Stage) -> None:
    stage.submit(stage.upload(blob(1)[0]))
    stage.work()
    record = stage.backend.store.project(stage.key)
    assert record is not None
    assert (record.approvals, stage.pool) == (1, [])


def bulk(stage: Stage, **fields: Any) -> int:
    """Data Manager > Create Annotations From Predictions, for one task."""
    image, mask = blob(7)
    task = stage.upload(image)
    region = brush(mask, origin="prediction")
    made = stage.label_studio.annotate(
        task,
        [region],
        **{"updated_by": None, "lead_time": None, "parent_prediction": 5, "updated_at": now(), **fields},
    )
    row = stage.label_studio.annotations[made]
    stage.event("ANNOTATIONS_CREATED", annotation=[row], task=[stage.label_studio.tasks[task]])
    stage.work()
    return made


def test_masks_made_in_bulk_are_neither_examples_nor_kept_masks(stage: Stage) -> None:
    stage.approve(1)
    made = bulk(stage)
    reconcile(stage)
    assert made not in stage.pool
    assert stage.backend.store.kept(stage.key) == []


def test_masks_made_in_bulk_do_not_teach_once_their_prediction_is_deleted_either(stage: Stage) -> None:
    """`parent_prediction` turns null then; the origin of our regions still tells."""
    made = bulk(stage)
    stage.label_studio.annotations[made]["parent_prediction"] = None
    assert reconcile(stage).approved == 0


def test_a_mask_made_in_bulk_teaches_once_a_person_has_saved_it(stage: Stage) -> None:
    made = bulk(stage)
    stage.correct(made, brush(blob(7)[1], origin="prediction"), updated_by=1, lead_time=2.0)
    stage.work()
    assert stage.pool == [made]


def test_masks_made_in_bulk_teach_where_that_is_wanted(staging: Callable[..., Stage]) -> None:
    stage = staging(learn_from_bulk=True)
    made = bulk(stage)
    assert stage.pool == [made]


def test_where_only_ground_truth_counts_the_star_makes_and_unmakes_an_example(
    staging: Callable[..., Stage],
) -> None:
    stage = staging(approved_when="ground_truth")
    annotation = stage.approve(1)
    assert stage.pool == []
    regions = [brush(blob(1)[1])]
    stage.correct(annotation, *regions, ground_truth=True)
    stage.work()
    assert stage.pool == [annotation]
    stage.correct(annotation, *regions, ground_truth=False)
    stage.work()
    assert stage.pool == []


# -- what stops teaching -------------------------------------------------------------------------------------------
def test_what_was_learned_by_an_attempt_that_ended_in_the_middle_moves_the_revision_after_all(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt found the approval known, and the version stayed: Label Studio's stream asked for nothing."""
    before = stage.setup()
    store = stage.backend.store
    really = store.add_kept
    monkeypatch.setattr(
        store, "add_kept", lambda _kept: (_ for _ in ()).throw(StoreError("The disk is full."))
    )
    image, mask = blob(1)
    stage.submit(stage.upload(image), brush(mask))
    (event,) = store.pending_events()
    with pytest.raises(StoreError):
        stage.backend.learner.apply(event)
    monkeypatch.setattr(store, "add_kept", really)
    stage.work()
    assert stage.setup() != before


def test_a_correction_replaces_and_moves_the_revision(stage: Stage) -> None:
    annotation = stage.approve(1)
    before, smaller = stage.setup(), half(blob(1)[1])
    stage.correct(annotation, brush(smaller))
    stage.work()
    assert (mask_taught(stage, annotation) == smaller).all()
    assert stage.pool == [annotation]
    assert stage.setup() != before


def test_an_update_that_changes_nothing_changes_nothing(stage: Stage) -> None:
    annotation = stage.approve(1)
    before, pool = stage.setup(), stage.backend.store.pool(stage.key)
    stage.correct(annotation, brush(blob(1)[1], id="another", origin="manual", meta={"text": ["hm"]}))
    stage.work()
    assert stage.setup() == before
    assert stage.backend.store.pool(stage.key) == pool


def test_an_emptied_annotation_teaches_no_longer(stage: Stage) -> None:
    annotation = stage.approve(1)
    before = stage.setup()
    stage.correct(annotation)
    stage.work()
    assert stage.pool == []
    assert stage.setup() != before


def test_a_deleted_annotation_is_not_used_by_the_very_next_prediction(stage: Stage) -> None:
    first, second = stage.approve(1), stage.approve(2)
    (task,) = stage.blobs(1, first=5)
    stage.predict(task)
    before = stage.setup()
    stage.delete(first)
    stage.work()
    stage.predict(task)
    keys = stage.backend.store.predictions(stage.key, task)[0].context[stage.target]
    assert keys == (example_of(stage, second).info.key,)
    assert stage.setup() != before


def test_deleted_tasks_take_their_examples_and_states_along_though_nobody_announces_it(stage: Stage) -> None:
    annotation = stage.approve(1)
    task = stage.label_studio.annotations[annotation]["task"]
    stage.predict(task)
    stage.label_studio.delete_task(task)
    stage.event("TASKS_DELETED", tasks=[{"id": task}])
    stage.work()
    assert stage.pool == []
    assert stage.backend.store.predictions(stage.key, task) == []
    assert stage.backend.store.task_states(stage.key) == []


def test_an_annotation_turned_into_a_draft_is_found_gone_by_the_next_look(stage: Stage) -> None:
    stays, goes = stage.approve(1), stage.approve(2)
    reconcile(stage)
    stage.label_studio.withdraw(goes)
    stage.jobs.look()
    stage.work()
    assert stage.pool == [stays]


def test_an_older_event_changes_nothing(stage: Stage) -> None:
    annotation = stage.approve(1)
    new, row = half(blob(1)[1]), dict(stage.label_studio.annotations[annotation])
    stage.correct(annotation, brush(new))
    stage.work()
    task = stage.label_studio.tasks[row["task"]]
    for late in (row, {**row, "was_cancelled": True}, {**row, "result": []}):
        stage.event("ANNOTATION_UPDATED", annotation=late, task=task)
        stage.work()
    assert stage.pool == [annotation]
    assert (mask_taught(stage, annotation) == new).all()


def test_an_event_applied_twice_changes_nothing(stage: Stage) -> None:
    annotation = stage.approve(1)
    before = stage.setup()
    stage.annotated("ANNOTATION_CREATED", annotation)
    stage.work()
    assert (stage.pool, stage.setup()) == ([annotation], before)


def test_two_annotators_of_a_task_each_give_an_example(stage: Stage) -> None:
    first = stage.approve(1, completed_by=1)
    task = stage.label_studio.annotations[first]["task"]
    second = stage.submit(task, brush(half(blob(1)[1])), completed_by=2)
    stage.work()
    pool = stage.backend.store.pool(stage.key)
    assert [(info.annotation, info.annotator) for info in pool] == [(first, 1), (second, 2)]
    stage.delete(first)
    stage.work()
    assert stage.pool == [second]


def test_an_event_from_between_two_equal_submissions_changes_nothing(stage: Stage) -> None:
    """The second one is known from its event already, which came first: what it confirmed is the newest."""
    annotation, mask = stage.approve(1), blob(1)[1]
    row = stage.label_studio.annotations[annotation]
    between = {**row, "result": [brush(half(mask))], "updated_at": now()}
    stage.correct(annotation, brush(mask))
    stage.work()
    stage.event("ANNOTATION_UPDATED", annotation=between, task=stage.label_studio.tasks[row["task"]])
    stage.work()
    assert (mask_taught(stage, annotation) == mask).all()
