"""What was deleted or skipped stays away, in whatever order Label Studio tells of it and whoever reads it meanwhile."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from backend.learner import Learnt, withdrawn
from backend.store.leases import held
from tests.backend.stage import Stage, blob, brush, half, mask_taught, now, reconcile

Staging = Callable[..., Stage]
Happens = Callable[[], object]
WAYS = pytest.mark.parametrize("how", ["deleted", "skipped", "task deleted"])


def submitted(stage: Stage, seed: int, *, tell: bool = False) -> int:
    image, mask = blob(seed)
    return stage.submit(stage.upload(image), brush(mask), tell=tell)


def take_away(stage: Stage, annotation: int, how: str) -> None:
    if how == "deleted":
        stage.delete(annotation)
    elif how == "skipped":
        stage.correct(annotation, was_cancelled=True)
    else:
        task = stage.label_studio.annotations[annotation]["task"]
        stage.label_studio.delete_task(task)
        stage.event("TASKS_DELETED", tasks=[{"id": task}])


def apply_all(stage: Stage) -> None:
    """What another thread of the worker does: all events that nobody works on."""
    for event in stage.backend.store.pending_events(100, stage.key):
        stage.backend.learner.apply(event)
        stage.backend.store.finish_event(event.id)


def once_before(on: Any, name: str, happens: Happens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen, once, before a method does its work."""
    really, waiting = getattr(on, name), [happens]

    def after_it(*given: Any, **named: Any) -> Any:
        if waiting:
            waiting.pop()()
        return really(*given, **named)

    monkeypatch.setattr(on, name, after_it)


def once_after(on: Any, name: str, happens: Happens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen, once, after a method has done its work and before anybody hears of it."""
    really, waiting = getattr(on, name), [happens]

    def before_it(*given: Any, **named: Any) -> Any:
        found = really(*given, **named)
        if waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(on, name, before_it)


def unreadable(stage: Stage, annotation: int) -> Happens:
    """Let the image of an annotation's task be gone; returns what mends it."""
    row = stage.label_studio.annotations[annotation]
    path = stage.label_studio.tasks[row["task"]]["data"]["image"]
    upload = stage.label_studio.uploads.pop(path)
    return lambda: stage.label_studio.uploads.update({path: upload})


# -- in whatever order -----------------------------------------------------------------------------------------------
@WAYS
def test_what_is_gone_stays_away_though_its_submission_is_told_after_it(stage: Stage, how: str) -> None:
    """Where Label Studio has a Redis it sends events as jobs, side by side: nobody knew of it when it was withdrawn."""
    stays = stage.approve(2)
    gone = submitted(stage, 1)
    first = dict(stage.label_studio.annotations[gone])
    task = dict(stage.label_studio.tasks[first["task"]])
    take_away(stage, gone, how)
    stage.work(later=True)
    reconcile(stage)
    del stage.label_studio.uploads[task["data"]["image"]]  # it is not even asked for
    stage.event("ANNOTATION_CREATED", annotation=first, task=task)
    stage.work()
    assert stage.pool == [stays]
    assert stage.backend.store.pending_events() == []
    reconcile(stage)
    assert stage.pool == [stays]


def test_what_was_skipped_teaches_once_it_is_submitted(stage: Stage) -> None:
    annotation, mask = submitted(stage, 1), blob(1)[1]
    stage.correct(annotation, was_cancelled=True)
    stage.work()
    stage.correct(annotation, brush(mask), was_cancelled=False)
    stage.work()
    assert stage.pool == [annotation]


def test_an_older_skip_does_not_drop_what_was_submitted_since_and_waits_for_its_image(stage: Stage) -> None:
    annotation = submitted(stage, 1)
    older = {**stage.label_studio.annotations[annotation], "was_cancelled": True, "result": []}
    stage.label_studio.annotations[annotation]["updated_at"] = now()
    mend = unreadable(stage, annotation)
    stage.annotated("ANNOTATION_UPDATED", annotation)
    stage.work()
    stage.event("ANNOTATION_UPDATED", annotation=older, task=stage.label_studio.tasks[older["task"]])
    stage.work()
    mend()
    stage.work(later=True)
    assert stage.pool == [annotation]


def test_what_label_studio_has_after_all_teaches_again(stage: Stage) -> None:
    """As after a backup was restored: what it exports is true, and from then on its events count as well."""
    annotation, mask = stage.approve(1), blob(1)[1]
    row = dict(stage.label_studio.annotations[annotation])
    stage.delete(annotation)
    stage.work()
    assert stage.pool == []
    stage.label_studio.annotations[annotation] = row
    reconcile(stage)
    assert stage.pool == [annotation]
    stage.correct(annotation, brush(half(mask)))
    stage.work()
    assert (mask_taught(stage, annotation) == half(mask)).all()


def test_a_restored_task_is_learned_from_again(stage: Stage) -> None:
    annotation = stage.approve(1)
    row = dict(stage.label_studio.annotations[annotation])
    task = dict(stage.label_studio.tasks[row["task"]])
    take_away(stage, annotation, "task deleted")
    stage.work()
    stage.label_studio.tasks[row["task"]], stage.label_studio.annotations[annotation] = task, row
    reconcile(stage)
    assert stage.pool == [annotation]


# -- while it is read ------------------------------------------------------------------------------------------------
@WAYS
def test_what_is_gone_by_the_time_its_image_is_read_is_not_stored(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As where a worker stands still while an image comes, until another one takes the project over."""
    stays = stage.approve(2)
    gone = submitted(stage, 1, tell=True)
    (event,) = stage.backend.store.pending_events()

    def meanwhile() -> None:
        take_away(stage, gone, how)
        stage.backend.store.finish_event(event.id)
        apply_all(stage)

    once_before(stage.backend.images, "open", meanwhile, monkeypatch)
    before = stage.setup()
    assert stage.backend.learner.apply(event) == Learnt()
    assert (stage.pool, stage.setup()) == ([stays], before)


def test_what_is_gone_at_the_moment_in_which_it_is_stored_leaves_again(
    either: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = submitted(either, 1, tell=True)
    (event,) = either.backend.store.pending_events()

    def meanwhile() -> None:
        take_away(either, gone, "deleted")
        either.backend.store.finish_event(event.id)
        apply_all(either)

    once_before(either.backend.store, "put_approval", meanwhile, monkeypatch)
    assert either.backend.learner.apply(event).approved == 0
    assert (either.pool, either.backend.store.approvals(either.key)) == ([], [])


@WAYS
def test_what_is_gone_by_the_time_the_first_comparison_reads_it_is_not_stored(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Only what was known before was looked after, and before the first comparison nothing is."""
    stage.setup()
    gone, stays = submitted(stage, 1), submitted(stage, 2)

    def meanwhile() -> None:
        take_away(stage, gone, how)
        apply_all(stage)

    once_before(stage.backend.images, "open", meanwhile, monkeypatch)  # that of the newest
    reconcile(stage)
    assert stage.pool == [stays]


def test_what_is_submitted_and_deleted_while_one_export_is_made_is_not_brought_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, task = stage.approve(2), stage.upload(blob(1)[0])
    export = stage.backend.label_studio.export

    def meanwhile(*given: Any) -> Any:
        gone = stage.submit(task, brush(blob(1)[1]))
        apply_all(stage)
        rows = export(*given)
        stage.delete(gone)
        apply_all(stage)
        return rows

    monkeypatch.setattr(stage.backend.label_studio, "export", meanwhile)
    reconcile(stage)
    assert stage.pool == [stays]


def test_what_is_skipped_again_while_the_export_is_made_stays_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was noted before the export was begun is forgotten by it, but not what came to it since."""
    annotation, mask = submitted(stage, 1), blob(1)[1]
    stage.correct(annotation, was_cancelled=True)
    stage.work()
    stage.correct(annotation, brush(mask), was_cancelled=False, tell=False)

    def meanwhile() -> None:
        stage.correct(annotation, was_cancelled=True)
        apply_all(stage)

    once_after(stage.backend.label_studio, "export", meanwhile, monkeypatch)
    reconcile(stage)
    assert stage.pool == []


# -- what a comparison leaves alone ----------------------------------------------------------------------------------
def test_what_is_submitted_anew_while_the_export_is_made_that_has_it_skipped_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotation, mask = stage.approve(1), blob(1)[1]
    stage.correct(annotation, brush(mask), was_cancelled=True, tell=False)

    def meanwhile() -> None:
        stage.correct(annotation, brush(half(mask)), was_cancelled=False)
        apply_all(stage)

    once_after(stage.backend.label_studio, "export", meanwhile, monkeypatch)
    reconcile(stage)
    assert (mask_taught(stage, annotation) == half(mask)).all()


def test_what_was_not_submitted_anew_is_gone_though_label_studio_knows_it_by_an_earlier_time(
    stage: Stage,
) -> None:
    """As where an older backup was restored."""
    annotation = stage.approve(1)
    earlier = "2026-01-01T00:00:00Z"
    stage.label_studio.annotations[annotation].update(was_cancelled=True, updated_at=earlier)
    reconcile(stage)
    assert stage.pool == []


def test_what_comes_while_the_export_is_made_and_waits_for_its_image_goes_on_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, mends = stage.approve(1), []

    def meanwhile() -> None:
        mends.append(unreadable(stage, submitted(stage, 2)))
        stage.annotated("ANNOTATION_CREATED", first + 1)
        stage.work()

    once_after(stage.backend.label_studio, "export", meanwhile, monkeypatch)
    reconcile(stage)
    mends[0]()
    stage.work(later=True)
    assert stage.pool == [first, first + 1]


def test_what_an_export_does_not_have_yet_teaches_when_its_event_is_applied(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be told of a moment before others can see it in Label Studio's database."""
    annotation, export = submitted(stage, 1, tell=True), stage.backend.label_studio.export

    def not_seeing_it(*given: Any) -> Any:
        return [{**task, "annotations": []} for task in export(*given)]

    monkeypatch.setattr(stage.backend.label_studio, "export", not_seeing_it)
    reconcile(stage)
    apply_all(stage)
    assert stage.pool == [annotation]


def test_what_waits_for_its_image_is_given_up_where_the_export_has_it_skipped(stage: Stage) -> None:
    annotation = submitted(stage, 1)
    mend = unreadable(stage, annotation)
    stage.annotated("ANNOTATION_CREATED", annotation)
    stage.work()
    stage.correct(annotation, brush(blob(1)[1]), was_cancelled=True, tell=False)
    reconcile(stage)
    mend()
    stage.work(later=True)
    assert stage.pool == []
    assert stage.backend.store.pending_events() == []


# -- while somebody else withdraws ---------------------------------------------------------------------------------
def test_a_comparison_that_may_not_withdraw_yet_is_made_again_soon(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed with a traceback, and what it had found waited for the next hour."""
    monkeypatch.setattr(withdrawn, "held", partial(held, patience=0.1))
    annotation = stage.approve(1)
    stage.label_studio.withdraw(annotation)
    note = f"changing:withdrawn:{stage.key}"
    stage.backend.store.acquire(note, "another", 3600)
    stage.jobs.reconcile(stage.key)
    stage.work()
    assert stage.pool == [annotation]
    stage.backend.store.release(note, "another")
    assert "reconcile" in stage.work(later=True)
    assert stage.pool == []


# -- the note -------------------------------------------------------------------------------------------------------
def test_the_note_is_bounded_but_never_forgets_a_part_of_the_last_event(either: Stage) -> None:
    """Hundreds are enough: what is older has long been applied."""
    store = either.backend.store
    either.event("ANNOTATIONS_DELETED", annotations=[{"id": number} for number in range(1, 1501)])
    either.work()
    assert len(withdrawn.noted(store, either.key)) == 1500
    either.event("ANNOTATIONS_DELETED", annotations=[{"id": 5000}])
    either.work()
    noted = withdrawn.noted(store, either.key)
    assert len(noted) == 1000
    assert list(noted)[-1] == "annotation 5000"


def test_an_annotation_that_was_deleted_is_not_taken_for_skipped_by_what_is_told_later(stage: Stage) -> None:
    annotation = submitted(stage, 1)
    skip = {**stage.label_studio.annotations[annotation], "was_cancelled": True}
    later = {**stage.label_studio.annotations[annotation], "updated_at": now()}
    task = stage.label_studio.tasks[skip["task"]]
    stage.delete(annotation)
    stage.event("ANNOTATION_UPDATED", annotation=skip, task=task)
    stage.event("ANNOTATION_UPDATED", annotation=later, task=task)
    apply_all(stage)  # and no comparison, which would find it gone
    assert stage.pool == []
