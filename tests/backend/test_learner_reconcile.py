"""What the learner does with what it cannot read, with the export, with the revision and with full pools."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backend.errors import LabelStudioError, NotFound
from backend.learner import Learnt
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.loopback import Answer
from tests.backend.stage import Stage, blob, brush, mask_taught, reconcile

DEBRIS = LABEL_CONFIG.replace('<Label value="cell"/>', '<Label value="cell"/><Label value="debris"/>')


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


def test_an_approval_whose_image_cannot_be_read_is_tried_again_and_keeps_no_other_waiting(
    stage: Stage,
) -> None:
    waits, mend = unreadable(stage)
    other = stage.approve(2)
    assert stage.pool == [other]
    (event,) = stage.backend.store.pending_events()
    assert event.attempts >= 1
    mend()
    stage.work(later=True)
    assert sorted(stage.pool) == [waits, other]
    assert stage.backend.store.pending_events() == []


def test_an_approval_that_was_given_up_is_found_by_the_export(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, mend = unreadable(stage)
    for _ in range(20):
        stage.work(later=True)
    assert stage.backend.store.pending_events() == []
    assert reconcile(stage).unread[0][0] == stage.label_studio.annotations[waits]["task"]
    mend()
    a_minute_later = SimpleNamespace(time=lambda: time.time() + 61)
    monkeypatch.setattr("backend.learner.due.time", a_minute_later)
    stage.jobs.look()
    stage.work()
    assert stage.pool == [waits]


def test_while_a_label_config_cannot_be_read_events_and_examples_are_left_as_they_are(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that was stored before there was a limit: events were given up, a page of log each."""
    first = stage.approve(1)
    second = stage.approve(2)
    labels = "".join(f'<Label value="{number}"/>' for number in range(2001))
    large = LABEL_CONFIG.replace('<Label value="cell"/>', labels)
    stage.backend.store.put_label_config(stage.key, large, "before there was a limit")
    project = stage.label_studio.projects[stage.project]
    mended, project["label_config"] = project["label_config"], large
    image, mask = blob(3)
    third = stage.submit(stage.upload(image), brush(mask))
    stage.correct(first)
    stage.delete(second)
    caplog.clear()
    for _ in range(10):
        stage.jobs.look()
        stage.jobs.reconcile(stage.key)
        stage.work(later=True)
    assert stage.pool == [first, second]
    assert len(stage.backend.store.pending_events()) == 3
    said = [line for line in caplog.messages if "more than 2000 labels" in line]
    assert [line.partition(":")[0] for line in said] == [
        f"project {stage.key} learns nothing from its approvals",
        f"project {stage.key} not compared with Label Studio",
    ]
    assert "Traceback" not in caplog.text

    project["label_config"] = mended
    stage.setup()
    stage.jobs.look()
    stage.work(later=True)
    assert stage.pool == [third]
    assert stage.backend.store.pending_events() == []


def test_events_of_a_project_that_cannot_learn_hold_up_no_other_project(stage: Stage) -> None:
    """The oldest thousand events of all projects were looked at: when all were one project's, no other learnt anything."""
    store = stage.backend.store
    store.put_label_config("9.1", "<View", "of an earlier version")
    stuck = [store.add_event("9.1", "ANNOTATION_CREATED", {}, 1.0) for _ in range(1001)]
    first = stage.approve(1)
    assert stage.pool == [first]
    for event in stuck[102:]:
        store.finish_event(event)
    image, mask = blob(2)
    second = stage.submit(stage.upload(image), brush(mask))
    stage.jobs.events.flush()  # as when a worker died
    stage.jobs.look()
    stage.work()
    assert stage.pool == [first, second]
    assert store.waiting_events()["9.1"].count == 102, "none is given up"


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
def test_a_mask_of_another_size_fits_where_the_proportions_are_the_same(
    stage: Stage, shape: tuple[int, int]
) -> None:
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


def test_one_approval_moves_the_revision_once_though_event_and_export_both_tell_of_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first sight of a project event and reconcile run side by side: each saw the count go from 0 to 1."""
    stage.setup()
    stage.work()
    image, mask = blob(1)
    stage.submit(stage.upload(image), brush(mask))
    export = stage.backend.label_studio.export

    def while_the_event_is_applied(*arguments: Any) -> Any:
        stage.work()
        return export(*arguments)

    monkeypatch.setattr(stage.backend.label_studio, "export", while_the_event_is_applied)
    before = stage.setup()
    reconcile(stage)
    assert before.endswith("-r0")
    assert stage.setup().endswith("-r1")


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


def test_one_comparison_that_met_a_standstill_does_not_put_off_the_next_for_long(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13 s of a machine that stood still made a project blind to silent changes for 260 s."""
    name, store, learner = f"reconcile-seconds:{stage.key}", stage.backend.store, stage.backend.learner
    stage.approve(1)
    reconcile(stage)
    store.set_note(name, "2")
    clock = [0.0]
    really = stage.backend.label_studio.export

    def slowly(*given: Any) -> Any:
        clock[0] += 13
        return really(*given)

    monkeypatch.setattr(stage.backend.label_studio, "export", slowly)
    monkeypatch.setattr(
        "backend.learner.learner.time", SimpleNamespace(time=time.time, monotonic=lambda: clock[0])
    )
    taken = []
    for _ in range(4):
        learner.reconcile(stage.key)
        taken.append(float(store.note(name) or 0))
    assert taken == [4, 8, 13, 13], "and where it is slow for good, that is known soon"
    store.set_note(name, "0.05")
    learner.reconcile(stage.key)
    assert float(store.note(name) or 0) == 1


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


def test_once_the_pool_is_full_of_newer_masks_older_images_are_not_read(
    staging: Callable[..., Stage],
) -> None:
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
