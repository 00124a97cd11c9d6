"""Attempts that end in the middle, as with a killed worker or a full disk: the next one moves the revision after all."""

from collections.abc import Callable
from typing import Any

import pytest

from backend.errors import StoreError
from tests.backend.stage import Stage, blob, brush, half, reconcile


def corrected(stage: Stage, annotation: int) -> None:
    stage.correct(annotation, brush(half(blob(1)[1])))


def emptied(stage: Stage, annotation: int) -> None:
    stage.correct(annotation)


def deleted(stage: Stage, annotation: int) -> None:
    stage.delete(annotation)


def cut_short(stage: Stage, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply what waits by an attempt that ends once the store has done the last thing before the revision moves."""
    store = stage.backend.store
    really = getattr(store, after)

    def do_and_end(*given: Any, **named: Any) -> Any:
        really(*given, **named)
        raise StoreError("The disk is full.")

    (event,) = store.pending_events()
    with monkeypatch.context() as ending:
        ending.setattr(store, after, do_and_end)
        with pytest.raises(StoreError):
            stage.backend.learner.apply(event)


@pytest.mark.parametrize(
    ("change", "last"),
    [(corrected, "put_approval"), (emptied, "put_approval"), (deleted, "withdraw")],
    ids=["corrected", "emptied", "deleted"],
)
def test_a_change_whose_attempt_ended_in_the_middle_moves_the_revision_after_all(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, change: Callable[[Stage, int], None], last: str
) -> None:
    """The next attempt found nothing left to change, and predictions by the old mask stayed current."""
    annotation = stage.approve(1)
    stage.approve(2)
    before = stage.setup()
    change(stage, annotation)
    cut_short(stage, last, monkeypatch)
    assert stage.setup() == before

    stage.work()

    moved = stage.setup()
    assert moved != before
    stage.event("ANNOTATION_DELETED", annotations=[{"id": 10_000}])
    stage.work()
    assert stage.setup() == moved, "once"


def test_a_first_mask_of_a_known_annotation_moves_the_revision_after_all(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.approve(1)
    image, mask = blob(2)
    annotation = stage.submit(stage.upload(image))
    stage.work()
    before = stage.setup()
    stage.correct(annotation, brush(mask))
    cut_short(stage, "put_approval", monkeypatch)
    assert stage.setup() == before

    stage.work()

    assert stage.setup() != before


def test_what_a_comparison_owes_is_not_for_an_event_to_pay(stage: Stage) -> None:
    """They run side by side: every event of a long comparison moved the revision."""
    stage.approve(1)
    before = stage.setup()
    stage.backend.store.set_note(f"owed:{stage.key}:comparison", "1")
    stage.event("ANNOTATION_DELETED", annotations=[{"id": 10_000}])
    stage.work(later=False)
    assert stage.setup() == before

    reconcile(stage)

    assert stage.setup() != before


def test_a_change_that_came_to_nothing_owes_nothing(stage: Stage) -> None:
    annotation = stage.approve(1)
    before = stage.setup()
    stage.correct(annotation, brush(blob(1)[1], id="another"))
    stage.work()

    stage.event("ANNOTATION_DELETED", annotations=[{"id": 10_000}])
    stage.work()

    assert stage.setup() == before
