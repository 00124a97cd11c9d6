"""Pools that have room again: which approvals are read then, and which stay out."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backend import dropped, lost_labels
from backend.errors import ImageError, Unreachable
from backend.learner import room
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import Stage, blob, brush, reconcile

Staging = Callable[..., Stage]

TWO_LABELS = LABEL_CONFIG.replace('<Label value="cell"/>', '<Label value="cell"/><Label value="debris"/>')


def submitted(stage: Stage, count: int, first: int = 0, **fields: Any) -> list[int]:
    """Approvals that no event tells of, oldest first."""
    return [
        stage.submit(stage.upload(blob(seed)[0]), brush(blob(seed)[1]), tell=False, **fields)
        for seed in range(first, first + count)
    ]


def take_out(stage: Stage, *annotations: int, because: str = "") -> None:
    keys = {info.key for info in stage.backend.store.pool(stage.key) if info.annotation in annotations}
    dropped.drop(stage.backend.store, stage.key, keys, because)


def grow(stage: Stage, size: int) -> None:
    stage.backend.learner._settings = stage.settings.model_copy(update={"pool_size": size})


def at_the_first_image(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, happens: Callable[[int], object]
) -> None:
    """Let something happen, once, while an image is fetched; it is told of which task."""
    really, waiting = stage.backend.images.open, [happens]

    def fetch(url: str, task: int) -> object:
        image = really(url, task)
        if waiting:
            waiting.pop()(task)
        return image

    monkeypatch.setattr(stage.backend.images, "open", fetch)


def filled(staging: Staging) -> tuple[Stage, list[int]]:
    """A pool of the newest three of six approvals; the images of the others were not read."""
    stage = staging(pool_size=3)
    annotations = submitted(stage, 6)
    reconcile(stage)
    assert stage.pool == annotations[3:]
    return stage, annotations


@pytest.fixture
def full(staging: Staging) -> tuple[Stage, list[int]]:
    return filled(staging)


def test_a_pool_that_is_made_larger_takes_up_the_newest_that_it_had_no_room_for(
    full: tuple[Stage, list[int]],
) -> None:
    """Their digests were known, so they were passed over for ever."""
    stage, annotations = full
    before = stage.setup()
    stage.backend.learner._settings = stage.settings.model_copy(update={"pool_size": 5})
    learnt = reconcile(stage)
    assert stage.pool == annotations[1:]
    assert (learnt.moved, learnt.approved, learnt.unread) == (True, 0, ())
    assert stage.setup() != before
    assert not reconcile(stage).moved


def test_what_left_a_full_pool_comes_back_when_there_is_room(staging: Staging) -> None:
    stage = staging(pool_size=2)
    annotations = [stage.approve(seed) for seed in range(4)]
    assert len(stage.pool) == 2
    stage.backend.learner._settings = stage.settings.model_copy(update={"pool_size": 9})
    reconcile(stage)
    assert stage.pool == annotations


def test_in_the_place_of_what_was_taken_out_of_use_comes_what_there_was_no_room_for(
    full: tuple[Stage, list[int]],
) -> None:
    stage, annotations = full
    take_out(stage, annotations[4])
    reconcile(stage)
    assert stage.pool == [annotations[2], annotations[3], annotations[5]]


def test_in_the_place_of_all_of_a_person_comes_nothing_else_of_that_person(staging: Staging) -> None:
    stage = staging(pool_size=3)
    submitted(stage, 1, completed_by=2)
    others = submitted(stage, 1, first=1, completed_by=1)
    bad = submitted(stage, 3, first=2, completed_by=2)
    reconcile(stage)
    assert stage.pool == bad
    newest = submitted(stage, 1, first=5, completed_by=1)
    reconcile(stage)
    take_out(stage, *bad, because="all of person 2")
    reconcile(stage)
    assert stage.pool == [*others, *newest]


@pytest.mark.parametrize("by", ["event", "comparison"])
def test_in_the_place_of_all_of_a_day_comes_nothing_else_of_that_day(staging: Staging, by: str) -> None:
    """Also when what was taken out is submitted again unchanged, which counts as of then: the day was forgotten by it."""
    stage = staging(pool_size=3)
    other = submitted(stage, 1, updated_at="2026-01-03T10:00:00Z")
    times = [f"2026-01-02T{hour}:00:00Z" for hour in (10, 11, 12)]
    day = [submitted(stage, 1, first=hour, updated_at=at)[0] for hour, at in enumerate(times, 1)]
    reconcile(stage)
    assert stage.pool == [*day[1:], *other]
    take_out(stage, *day[1:], because="the day")
    for annotation in day[1:]:
        again = stage.label_studio.annotations[annotation]["result"]
        stage.correct(annotation, *again, tell=by == "event")
    stage.work()
    reconcile(stage)
    reconcile(stage)
    assert stage.pool == other


def test_where_a_whole_label_was_taken_out_it_stays_empty(full: tuple[Stage, list[int]]) -> None:
    stage, annotations = full
    take_out(stage, *annotations, because="the label")
    reconcile(stage)
    assert stage.pool == []


def test_where_it_was_forgotten_what_is_out_of_use_nothing_is_taken_up(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    monkeypatch.setattr("backend.dropped._MOST", 1)
    take_out(stage, annotations[4])
    reconcile(stage)
    assert stage.pool == [annotations[3], annotations[5]]


def test_a_pool_with_room_takes_nothing_from_another_that_is_full(staging: Staging) -> None:
    """An annotation that says both labels must not push an example out of the pool that has no room."""
    stage = staging(pool_size=2)
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    image, mask = blob(0)
    both = stage.submit(stage.upload(image), brush(mask), brush(~mask, "debris"))
    stage.work()
    store = stage.backend.store
    store.drop_examples([info.key for info in store.pool(stage.key)])  # as full pools let them leave
    cells = [stage.approve(seed) for seed in (1, 2)]
    reconcile(stage)
    assert [info.annotation for info in store.pool(stage.key, "tag/image/debris")] == [both]
    assert [info.annotation for info in store.pool(stage.key, stage.target)] == cells


def test_what_cannot_be_read_any_more_is_passed_over_and_holds_up_nothing(
    full: tuple[Stage, list[int]],
) -> None:
    """As an approval that waits it would have the whole export made again every minute."""
    stage, annotations = full
    gone = stage.label_studio.annotations[annotations[2]]["task"]
    del stage.label_studio.uploads[stage.label_studio.tasks[gone]["data"]["image"]]
    take_out(stage, annotations[4])
    assert reconcile(stage).unread == ()
    assert stage.pool == [annotations[1], annotations[3], annotations[5]]
    assert not stage.backend.learner.is_due(stage.key)


def test_a_pass_takes_up_what_there_is_time_for_and_the_next_goes_on(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    stage.backend.learner._settings = stage.settings.model_copy(update={"pool_size": 6})
    monkeypatch.setattr(room, "SECONDS", -1.0)
    reconcile(stage)
    assert stage.pool == annotations[3:]
    monkeypatch.undo()
    reconcile(stage)
    assert stage.pool == annotations


def test_an_annotation_without_a_pixel_of_the_label_is_not_stored_over_and_over(stage: Stage) -> None:
    nothing = np.zeros((48, 64), bool)
    stage.submit(stage.upload(blob(1)[0]), brush(nothing), tell=False)
    other = stage.approve(2)
    reconcile(stage)
    assert not reconcile(stage).moved
    assert stage.pool == [other]


def test_what_is_out_of_use_costs_no_image_however_often_the_project_is_compared(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    image, mask = blob(0)
    both = stage.submit(stage.upload(image), brush(mask), brush(~mask, "debris"))
    stage.work()
    stage.approve(1)
    debris = [info.key for info in stage.backend.store.pool(stage.key, "tag/image/debris")]
    dropped.drop(stage.backend.store, stage.key, debris)
    another = stage.submit(stage.upload(blob(2)[0]), brush(blob(2)[1], "debris"))
    stage.work()
    opened: list[str] = []
    monkeypatch.setattr(stage.backend.images, "open", lambda url, task: opened.append(url))
    reconcile(stage)
    assert opened == []
    assert sorted(stage.pool) == [both, both + 1, another]


# -- time ----------------------------------------------------------------------------------------------------------
def test_an_image_that_nobody_gives_holds_up_the_others_only_once(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took all the time of each pass, and each pass began with it."""
    stage, annotations = full
    grow(stage, 5)
    really, clock = stage.backend.images.open, [0.0]
    dead = stage.label_studio.annotations[annotations[2]]["task"]
    tried: list[int] = []

    def fetch(url: str, task: int) -> object:
        tried.append(task)
        if task != dead:
            return really(url, task)
        clock[0] += 40.0
        raise ImageError("no answer in time")

    monkeypatch.setattr(stage.backend.images, "open", fetch)
    monkeypatch.setattr("backend.learner.room.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(room, "SECONDS", 30.0)
    reconcile(stage)
    assert stage.pool == annotations[3:]
    reconcile(stage)
    assert stage.pool == [*annotations[:2], *annotations[3:]]
    assert tried.count(dead) == 1
    take_out(stage, annotations[4])
    reconcile(stage)
    assert tried.count(dead) == 2  # when all others had their turn it has it again


def test_while_label_studio_is_away_no_more_is_tried(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    grow(stage, 6)
    tried: list[int] = []

    def fetch(url: str, task: int) -> object:
        tried.append(task)
        raise ImageError("not now") from Unreachable("no answer")

    with monkeypatch.context() as outage:
        outage.setattr(stage.backend.images, "open", fetch)
        outage.setattr(stage.backend.label_studio, "is_away", lambda: True)
        assert reconcile(stage).away
    assert len(tried) == 1
    reconcile(stage)
    assert stage.pool == annotations


def test_filling_pools_does_not_put_off_the_next_comparison(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export is what must not be repeated at once; only its own time counts."""
    stage, _ = full
    grow(stage, 4)
    clock = [1e9]
    monkeypatch.setattr(
        "backend.learner.learner.time", SimpleNamespace(time=time.time, monotonic=lambda: clock[0])
    )
    at_the_first_image(stage, monkeypatch, lambda _: clock.append(clock.pop() + 30.0))
    stage.backend.learner.reconcile(stage.key)
    assert float(stage.backend.store.note(f"reconcile-seconds:{stage.key}") or "x") == 0.0


def test_the_clock_is_looked_at_for_each_approval(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is lacking there is no image after which it could be."""
    stage, _ = full
    grow(stage, 6)
    monkeypatch.setattr(room, "SECONDS", -1.0)
    asked: list[object] = []
    monkeypatch.setattr(room, "says", lambda *given: asked.append(given))
    reconcile(stage)
    assert asked == []


def test_pools_are_looked_at_again_only_after_an_image(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    take_out(stage, *annotations, because="the label")
    looks: list[object] = []
    really = room._Pools.__init__

    def look(*given: Any) -> None:
        looks.append(given)
        really(*given)

    monkeypatch.setattr(room._Pools, "__init__", look)
    reconcile(stage)
    assert len(looks) == 1


# -- labels that moved ---------------------------------------------------------------------------------------------
def test_approvals_of_a_label_that_was_moved_are_taken_up_by_where_it_was_moved_to(
    full: tuple[Stage, list[int]],
) -> None:
    stage, annotations = full
    renamed(stage)
    grow(stage, 9)
    reconcile(stage)
    taught = [(info.annotation, info.target) for info in stage.backend.store.pool(stage.key)]
    assert taught == [(annotation, "tag/image/round") for annotation in annotations]


def test_what_was_taken_out_of_use_before_its_label_was_moved_stays_out_and_costs_no_image(
    full: tuple[Stage, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, annotations = full
    take_out(stage, annotations[4])
    renamed(stage)
    grow(stage, 9)
    reconcile(stage)
    others = [one for one in annotations if one != annotations[4]]
    assert stage.pool == others
    opened: list[str] = []
    monkeypatch.setattr(stage.backend.images, "open", lambda url, task: opened.append(url))
    reconcile(stage)
    assert opened == []
    assert stage.pool == others


def renamed(stage: Stage) -> None:
    """The label is `round` from now on, and an admin said so."""
    stage.label_studio.projects[stage.project]["label_config"] = LABEL_CONFIG.replace('"cell"', '"round"')
    reconcile(stage)
    lost_labels.move(stage.backend.store, stage.key, stage.target, "tag/image/round")
    reconcile(stage)
