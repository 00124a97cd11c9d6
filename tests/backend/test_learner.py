"""What teaches, what stops teaching, and when the revision moves: through webhook, worker and export."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.errors import LabelStudioError, NotFound
from backend.learner import Learnt
from backend.store.pictures import unpack_image, unpack_mask
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.loopback import Answer
from tests.backend.stage import Stage, blob, brush, mask_of, now

DEBRIS = LABEL_CONFIG.replace('<Label value="cell"/>', '<Label value="cell"/><Label value="debris"/>')


def half(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The upper half of a mask's pixels."""
    return mask & (np.cumsum(mask).reshape(mask.shape) <= mask.sum() // 2)


def example_of(stage: Stage, annotation: int) -> Any:
    keys = [info.key for info in stage.backend.store.pool(stage.key) if info.annotation == annotation]
    (stored,) = stage.backend.store.examples(keys).values()
    return stored


def mask_taught(stage: Stage, annotation: int) -> Any:
    return unpack_mask(example_of(stage, annotation).mask)


def reconcile(stage: Stage) -> Learnt:
    learnt = stage.backend.learner.reconcile(stage.key)
    stage.backend.store.set_note(f"reconcile-seconds:{stage.key}", "0")  # however slow this machine was
    return learnt


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
    values = {
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
        task, [region], **{"updated_by": None, "lead_time": None, "parent_prediction": 5, "updated_at": now(), **fields}
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


# -- what cannot be read -------------------------------------------------------------------------------------------
def unreadable(stage: Stage, seed: int = 1) -> tuple[int, Callable[[], None]]:
    """Submit a mask of an image that Label Studio does not give out; returns the annotation and what mends it."""
    image, mask = blob(seed)
    task = stage.upload(image)
    path = stage.label_studio.tasks[task]["data"]["image"]
    upload = stage.label_studio.uploads.pop(path)
    annotation = stage.submit(task, brush(mask))
    stage.work()

    def mend() -> None:
        stage.label_studio.uploads[path] = upload

    return annotation, mend


def test_an_approval_whose_image_cannot_be_read_is_tried_again_and_keeps_no_other_waiting(stage: Stage) -> None:
    waits, mend = unreadable(stage)
    other = stage.approve(2)
    assert stage.pool == [other]
    (event,) = stage.backend.store.pending_events()
    assert event.attempts >= 1
    mend()
    stage.work(later=True)
    assert sorted(stage.pool) == [waits, other]
    assert stage.backend.store.pending_events() == []


def test_an_approval_that_was_given_up_is_found_by_the_export(stage: Stage) -> None:
    waits, mend = unreadable(stage)
    for _ in range(20):
        stage.work(later=True)
    assert stage.backend.store.pending_events() == []
    assert reconcile(stage).unread[0][0] == stage.label_studio.annotations[waits]["task"]
    mend()
    stage.jobs.look()
    stage.work()
    assert stage.pool == [waits]


@pytest.mark.parametrize("how", ["deleted", "task deleted", "skipped", "turned into a draft"])
def test_what_is_gone_is_not_brought_back_by_an_event_that_is_tried_again(stage: Stage, how: str) -> None:
    """The deletion found nothing to withdraw; then the image could be read, and the deleted mask taught."""
    other = stage.approve(9)
    waits, mend = unreadable(stage)
    row = stage.label_studio.annotations[waits]
    if how == "deleted":
        stage.delete(waits)
    elif how == "task deleted":
        stage.label_studio.delete_task(row["task"])
        stage.event("TASKS_DELETED", tasks=[{"id": row["task"]}])
    elif how == "skipped":
        stage.correct(waits, was_cancelled=True)
    else:
        stage.label_studio.withdraw(waits)
        reconcile(stage)
    stage.work()
    mend()
    stage.work(later=True)
    stage.work(later=True)
    assert stage.pool == [other]
    assert stage.backend.store.pending_events() == []


def test_a_region_that_cannot_be_read_costs_only_its_annotation(stage: Stage) -> None:
    image, mask = blob(1)
    damaged = brush(mask)
    damaged["value"]["rle"] = damaged["value"]["rle"][:9]
    bad = stage.submit(stage.upload(image), damaged)
    good = stage.approve(2)
    assert stage.pool == [good]
    assert reconcile(stage).unread[0][0] == stage.label_studio.annotations[bad]["task"]


@pytest.mark.parametrize("shape", [(96, 128), (50, 64)], ids=["the same proportions", "others"])
def test_a_mask_of_another_size_fits_where_the_proportions_are_the_same(stage: Stage, shape: tuple[int, int]) -> None:
    """The file was replaced after it had been annotated."""
    image, mask = blob(1)
    larger = np.zeros(shape, bool)
    larger[: shape[0] // 2] = True
    annotation = stage.submit(stage.upload(image), brush(larger))
    stage.work()
    if shape == (96, 128):
        assert (mask_taught(stage, annotation) == (np.arange(48) < 24)[:, None]).all()
    else:
        assert stage.pool == []
        (event,) = stage.backend.store.pending_events()
        assert event.attempts == 1


# -- the export is the truth ---------------------------------------------------------------------------------------
def test_the_export_teaches_what_no_event_told(stage: Stage) -> None:
    """An import with annotations announces its tasks only."""
    image, mask = blob(1)
    annotation = stage.submit(stage.upload(image), brush(mask), tell=False, lead_time=None, updated_by=None)
    learnt = reconcile(stage)
    assert stage.pool == [annotation]
    assert (learnt.approved, learnt.moved, learnt.new_tasks) == (1, True, True)
    assert reconcile(stage) == Learnt(new_tasks=True)


def test_the_first_look_at_a_project_compares_it_with_the_export(stage: Stage) -> None:
    annotation = stage.submit(stage.upload(blob(1)[0]), brush(blob(1)[1]), tell=False)
    stage.setup()
    stage.work()
    assert stage.pool == [annotation]


def test_a_part_of_the_tasks_can_be_compared_alone(stage: Stage) -> None:
    first, second = stage.approve(1), stage.approve(2)
    tasks = {number: stage.label_studio.annotations[number]["task"] for number in (first, second)}
    for number in (first, second):
        stage.label_studio.withdraw(number)
    stage.backend.learner.reconcile(stage.key, [tasks[first]])
    assert stage.pool == [second]
    record = stage.backend.store.project(stage.key)
    assert record is not None


def test_an_approval_that_comes_while_the_export_is_made_is_not_withdrawn(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export did not hold it yet, but the store did already: it was taken for one that is gone."""
    first = stage.approve(1)
    export, approved = stage.backend.label_studio.export, []

    def slow_export(*arguments: Any) -> Any:
        rows = export(*arguments)
        approved.append(stage.approve(2))
        return rows

    monkeypatch.setattr(stage.backend.label_studio, "export", slow_export)
    reconcile(stage)
    assert stage.pool == [first, *approved]


def test_an_annotation_deleted_while_the_export_is_made_is_not_brought_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = stage.approve(1), stage.approve(2)
    export = stage.backend.label_studio.export

    def slow_export(*arguments: Any) -> Any:
        rows = export(*arguments)
        stage.delete(first)
        stage.work()
        return rows

    monkeypatch.setattr(stage.backend.label_studio, "export", slow_export)
    reconcile(stage)
    assert stage.pool == [second]


def test_another_project_under_the_same_number_is_not_taken_for_the_old_one(stage: Stage) -> None:
    stage.approve(1)
    old = stage.key
    stage.label_studio.projects[stage.project]["created_at"] = "2026-02-02T00:00:00Z"
    with pytest.raises(NotFound, match="no longer"):
        stage.backend.learner.reconcile(old)
    assert [info.project for info in stage.backend.store.pool(old)] == [old]


def test_a_comparison_that_label_studio_does_not_answer_changes_nothing(stage: Stage) -> None:
    annotation = stage.approve(1)
    stage.label_studio.failures += [Answer(500)] * 20
    with pytest.raises(LabelStudioError):
        reconcile(stage)
    stage.label_studio.failures.clear()
    assert stage.pool == [annotation]


def test_a_comparison_is_due_where_none_was_made_long_ago_or_where_the_figures_differ(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, store = stage.backend.learner, stage.backend.store
    assert learner.is_due(stage.key)
    stage.approve(1)
    reconcile(stage)
    assert not learner.is_due(stage.key)
    stage.submit(stage.upload(blob(2)[0]), brush(blob(2)[1]), tell=False)
    assert learner.is_due(stage.key)
    store.set_note(f"reconcile-seconds:{stage.key}", "100")  # a large project: not again so soon
    assert not learner.is_due(stage.key)
    record = store.project(stage.key)
    assert record is not None
    store.mark_reconciled(stage.key, record.reconciled - 4000, record.signs)
    assert learner.is_due(stage.key)


# -- the revision --------------------------------------------------------------------------------------------------
def test_the_revision_moves_after_the_approvals_with_which_asking_again_pays(stage: Stage) -> None:
    versions = [stage.setup()]
    for seed in range(9):
        stage.approve(seed)
        versions.append(stage.setup())
    moved = [number for number in range(1, 10) if versions[number] != versions[number - 1]]
    assert moved == [1, 2, 3, 5, 8]


def test_many_approvals_at_once_move_the_revision_once(stage: Stage) -> None:
    for seed in range(5):
        stage.submit(stage.upload(blob(seed)[0]), brush(blob(seed)[1]), tell=False)
    before = stage.setup()
    assert reconcile(stage).moved
    record = stage.backend.store.project(stage.key)
    assert record is not None
    assert (record.generation, record.approvals) == (1, 5)
    assert stage.setup() != before


def test_a_new_label_moves_the_revision_and_examples_of_the_others_stay(stage: Stage) -> None:
    annotation = stage.approve(1)
    before = stage.setup()
    stage.label_studio.projects[stage.project]["label_config"] = DEBRIS
    assert stage.setup() != before
    assert stage.pool == [annotation]


@pytest.mark.parametrize("told_by", ["setup", "event"])
def test_after_a_change_of_the_label_config_all_approvals_are_read_again(stage: Stage, told_by: str) -> None:
    """A label that was approved before its control was there, or could be read, teaches from then on."""
    projects = stage.label_studio.projects
    projects[stage.project]["label_config"] = LABEL_CONFIG.replace("cell", "other")
    annotation = stage.approve(1)
    stage.work(later=True)
    assert stage.pool == []
    projects[stage.project]["label_config"] = LABEL_CONFIG
    if told_by == "setup":
        stage.setup()
    else:
        stage.event("PROJECT_UPDATED")
    stage.work()
    assert stage.pool == [annotation]


def test_a_label_config_that_cannot_be_read_is_passed_over(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    annotation = stage.approve(1)
    stage.label_studio.projects[stage.project]["label_config"] = "<View"
    stage.event("PROJECT_UPDATED")
    stage.work()
    assert stage.pool == [annotation]
    assert "label config ignored" in caplog.text


# -- bounds --------------------------------------------------------------------------------------------------------
def test_a_pool_keeps_its_bound_and_its_approvals(staging: Callable[..., Stage]) -> None:
    stage = staging(pool_size=3)
    approved = [stage.approve(seed) for seed in range(5)]
    assert len(stage.pool) == 3
    assert stage.pool[-1] == approved[-1]
    assert len(stage.backend.store.approvals(stage.key)) == 5


def test_once_the_pool_is_full_of_newer_masks_older_images_are_not_read(staging: Callable[..., Stage]) -> None:
    stage = staging(pool_size=2)
    tasks = []
    for seed in range(5):
        tasks.append(stage.upload(blob(seed)[0]))
        stage.submit(tasks[-1], brush(blob(seed)[1]), tell=False)
    reconcile(stage)
    paths = [stage.label_studio.tasks[task]["data"]["image"] for task in tasks]
    assert [bool(stage.label_studio.asked(path)) for path in paths] == [False, False, False, True, True]
    assert len(stage.backend.store.approvals(stage.key)) == 5
    assert reconcile(stage).approved == 0
