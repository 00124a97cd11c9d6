"""Pools that are filled while annotations are corrected, deleted or taken out of use: what was so stays so."""

from typing import Any

import pytest

from backend import dropped
from tests.backend.stage import Stage, blob, brush, half, mask_taught, reconcile
from tests.backend.test_room import TWO_LABELS, Staging, at_the_first_image, filled, grow, take_out


def approved(stage: Stage, task: int) -> list[int]:
    return [approval.annotation for approval in stage.backend.store.approvals(stage.key, tasks=[task])]


@pytest.fixture
def full(staging: Staging) -> tuple[Stage, list[int]]:
    return filled(staging)


def test_what_is_out_of_use_stays_out_when_its_annotation_is_saved_again_unchanged(stage: Stage) -> None:
    """Label Studio moves `updated_at` by that."""
    first, second = stage.approve(1), stage.approve(2)
    take_out(stage, first)
    stage.correct(first, *stage.label_studio.annotations[first]["result"])
    stage.work()
    reconcile(stage)
    assert stage.pool == [second]
    stage.correct(first, brush(half(blob(1)[1])))
    stage.work()
    assert stage.pool == [second, first]


def test_what_is_taken_out_of_use_while_pools_are_filled_is_not_filled_up(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by the approval whose image was just fetched: it would keep its person in use for good."""
    stage, annotations = full
    grow(stage, 5)
    at_the_first_image(
        stage, monkeypatch, lambda _: take_out(stage, *annotations, because="all of the person")
    )
    reconcile(stage)
    reconcile(stage)
    assert stage.pool == []


def test_where_it_is_forgotten_meanwhile_what_is_out_of_use_no_more_is_taken_up(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    grow(stage, 6)
    monkeypatch.setattr("backend.dropped._MOST", 1)
    at_the_first_image(stage, monkeypatch, lambda _: take_out(stage, annotations[4]))
    reconcile(stage)
    assert stage.pool == [annotations[3], annotations[5]]


def test_what_was_forgotten_is_not_known_because_others_are_put_back(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    monkeypatch.setattr("backend.dropped._MOST", 2)
    for annotation in annotations[3:]:
        take_out(stage, annotation)
    store = stage.backend.store
    (last, _) = dropped.listed(store, stage.key, store.pool(stage.key))
    dropped.put_back(store, stage.key, last.key)
    reconcile(stage)
    assert stage.pool == [annotations[5]]


def test_an_annotation_that_is_deleted_while_its_image_is_fetched_stays_deleted(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    grow(stage, 4)

    def delete(task: int) -> None:
        stage.delete(*approved(stage, task))
        stage.work()

    at_the_first_image(stage, monkeypatch, delete)
    before = stage.backend.store.project(stage.key)
    reconcile(stage)
    after = stage.backend.store.project(stage.key)
    assert stage.pool == [annotations[1], *annotations[3:]]
    assert annotations[2] not in {one.annotation for one in stage.backend.store.approvals(stage.key)}
    assert before is not None
    assert after is not None
    assert before.approvals == after.approvals


def test_a_correction_while_the_image_is_fetched_stays_and_counts_as_read(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    grow(stage, 4)
    corrected = half(blob(2)[1])

    def correct(task: int) -> None:
        (annotation,) = approved(stage, task)
        stage.correct(annotation, brush(corrected))
        stage.work()

    at_the_first_image(stage, monkeypatch, correct)
    reconcile(stage)
    assert annotations[2] in stage.pool
    assert (mask_taught(stage, annotations[2]) == corrected).all()
    assert all(one.digest for one in stage.backend.store.approvals(stage.key))


@pytest.fixture
def both(staging: Staging) -> tuple[Stage, int]:
    """An annotation of two labels whose example of one had left."""
    stage = staging(pool_size=3)
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    image, mask = blob(0)
    annotation = stage.submit(stage.upload(image), brush(mask), brush(~mask, "debris"))
    stage.work()
    store = stage.backend.store
    store.drop_examples([info.key for info in store.pool(stage.key, "tag/image/debris")])
    return stage, annotation


def test_an_example_of_the_same_annotation_taken_out_while_the_image_is_fetched_stays_out(
    both: tuple[Stage, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotation = both
    at_the_first_image(stage, monkeypatch, lambda _: take_out(stage, annotation))
    reconcile(stage)
    assert [info.target for info in stage.backend.store.pool(stage.key)] == ["tag/image/debris"]


def test_an_example_taken_out_while_its_annotation_is_written_stays_out(
    both: tuple[Stage, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotation = both
    store, really, waiting = stage.backend.store, stage.backend.store.put_approval, [annotation]

    def put(*given: Any) -> Any:
        if waiting:
            take_out(stage, waiting.pop())
        return really(*given)

    monkeypatch.setattr(store, "put_approval", put)
    reconcile(stage)
    assert [info.target for info in store.pool(stage.key)] == ["tag/image/debris"]


def test_what_comes_while_all_of_a_person_is_taken_out_leaves_again(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    grow(stage, 4)
    store, really, waiting = stage.backend.store, stage.backend.store.put_approval, list(annotations)

    def put(*given: Any) -> Any:
        if waiting:
            take_out(stage, *waiting, because="all of the person")
            waiting.clear()
        return really(*given)

    monkeypatch.setattr(store, "put_approval", put)
    reconcile(stage)
    reconcile(stage)
    assert stage.pool == []


def test_what_is_just_being_taken_out_is_left_alone(
    both: tuple[Stage, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted before it leaves."""
    stage, annotation = both
    store = stage.backend.store
    with monkeypatch.context() as half_done:
        half_done.setattr(store, "drop_examples", lambda keys: None)
        take_out(stage, annotation)
    before = store.pool(stage.key)
    reconcile(stage)
    assert store.pool(stage.key) == before


def test_events_wait_while_an_approval_is_written_and_not_while_its_image_is_fetched(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, _ = full
    grow(stage, 4)
    store, seen = stage.backend.store, dict[str, bool]()

    def note(when: str) -> None:
        seen[when] = store.held(f"learn:{stage.key}")

    at_the_first_image(stage, monkeypatch, lambda _: note("fetching"))
    really = store.put_approval

    def put(*given: Any) -> Any:
        note("writing")
        return really(*given)

    monkeypatch.setattr(store, "put_approval", put)
    reconcile(stage)
    assert seen == {"fetching": False, "writing": True}


def test_where_events_are_applied_for_long_an_approval_is_taken_up_another_time(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    grow(stage, 4)
    monkeypatch.setattr("backend.reading_again._PATIENCE", 0.0)
    stage.backend.store.acquire(f"learn:{stage.key}", "the worker", 3600)
    reconcile(stage)
    assert stage.pool == annotations[3:]
    stage.backend.store.release(f"learn:{stage.key}", "the worker")
    reconcile(stage)
    assert stage.pool == annotations[2:]
