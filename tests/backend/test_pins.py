"""Pinned examples: never displaced, used before others, by the API and through whatever happens to them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backend import dropped, pins
from model import retrieval
from tests.backend.stage import Run, Stage, blob, brush, half, reconcile


def act(stage: Stage, key: str, does: str, status: int = 200) -> Any:
    answer = stage.client.post(f"/api/projects/{stage.key}/examples/{key}/{does}")
    assert answer.status_code == status, answer.text
    return answer.json()


def key_of(stage: Stage, annotation: int) -> str:
    (key,) = [info.key for info in stage.backend.store.pool(stage.key) if info.annotation == annotation]
    return key


def pinned(stage: Stage) -> list[int]:
    return [info.annotation for info in stage.backend.store.pool(stage.key) if info.pinned]


def context(stage: Stage, task: int) -> set[int]:
    """Annotations behind a task's prediction."""
    stage.predict(task)
    record = stage.backend.store.predictions(stage.key, task)[0]
    by_key = {info.key: info.annotation for info in stage.backend.store.pool(stage.key)}
    return {by_key[key] for key in record.context[stage.target]}


def test_a_pinned_example_is_never_displaced_from_a_full_pool(staging: Callable[..., Stage]) -> None:
    stage = staging(pool_size=2)
    first = stage.approve(1)
    stage.approve(2)
    assert act(stage, key_of(stage, first), "pin") == {"key": key_of(stage, first), "pinned": True}
    for seed in range(3, 9):
        newest = stage.approve(seed)
        assert sorted(stage.pool) == [first, newest]
    reconcile(stage)
    assert first in stage.pool
    act(stage, key_of(stage, first), "unpin")
    for seed in range(9, 12):
        stage.approve(seed)
    assert first not in stage.pool


def test_half_of_a_pool_can_be_pinned(staging: Callable[..., Stage]) -> None:
    stage = staging(pool_size=4)
    annotations = [stage.approve(seed) for seed in range(4)]
    for annotation in annotations[:2]:
        act(stage, key_of(stage, annotation), "pin")
        act(stage, key_of(stage, annotation), "pin")
    said = act(stage, key_of(stage, annotations[2]), "pin", 409)["detail"]
    assert "2 examples of this label are pinned" in said
    assert "Unpin another one first" in said
    act(stage, key_of(stage, annotations[0]), "unpin")
    act(stage, key_of(stage, annotations[2]), "pin")
    assert pinned(stage) == annotations[1:3]


def test_what_is_not_there_is_neither_pinned_nor_unpinned(stage: Stage) -> None:
    stage.setup()
    for does in ("pin", "unpin"):
        assert "no such example" in act(stage, "0" * 32, does, 404)["detail"]


def test_pinned_examples_have_half_of_a_context_before_all_others(staging: Callable[..., Stage]) -> None:
    """By colour alone: the pinned ones are the last that similarity would take."""
    stage = staging(shots=2)
    stage.segment_by_colour()
    near = [stage.approve(seed) for seed in range(4)]
    image, mask = blob(9)
    far = stage.submit(stage.upload(255 - image), brush(mask))
    stage.work()
    (task,) = stage.blobs(1, first=20)
    assert far not in context(stage, task)
    act(stage, key_of(stage, far), "pin")
    used = context(stage, task)
    assert far in used
    assert len(used & set(near)) == 1
    act(stage, key_of(stage, near[0]), "pin")
    assert len(context(stage, task)) == 2, "two are pinned, and one place is theirs before others"


def test_of_a_task_s_examples_the_pinned_one_is_used(stage: Stage) -> None:
    stage.segment_by_colour()
    image, mask = blob(1)
    task = stage.upload(image)
    first, second = (stage.submit(task, brush(each)) for each in (mask, half(mask)))
    stage.work()
    (other,) = stage.blobs(1, first=9)
    assert context(stage, other) == {second}
    act(stage, key_of(stage, first), "pin")
    assert context(stage, other) == {first}


def test_a_choice_without_pins_is_what_it_was(stage: Stage) -> None:
    for seed in range(6):
        stage.approve(seed)
    pool = stage.backend.store.pool(stage.key)
    descriptors = np.stack([np.frombuffer(info.descriptor, np.float32) for info in pool])
    for places in (1, 3, 5):
        wanted = retrieval.choose(descriptors[2], descriptors, [None] * 6, places)
        assert pins.choose(descriptors[2], descriptors, pool, places) == wanted
    assert pins.best_of_tasks(pool) == pool


def test_a_corrected_example_stays_pinned(stage: Stage) -> None:
    image, mask = blob(1)
    annotation = stage.submit(stage.upload(image), brush(mask))
    stage.work()
    act(stage, key_of(stage, annotation), "pin")
    before = key_of(stage, annotation)
    stage.correct(annotation, brush(half(mask)))
    stage.work()
    assert key_of(stage, annotation) != before
    assert pinned(stage) == [annotation]


def test_one_that_was_taken_out_of_use_is_pinned_again_when_it_is_back(stage: Stage) -> None:
    first, second = stage.approve(1), stage.approve(2)
    for annotation in (first, second):
        act(stage, key_of(stage, annotation), "pin")
    keys = [key_of(stage, annotation) for annotation in (first, second)]
    act(stage, keys[1], "unpin")
    for key in keys:
        act(stage, key, "drop")
    for key in keys:
        dropped.put_back(stage.backend.store, stage.key, key)
    reconcile(stage)
    assert pinned(stage) == [first]
    act(stage, keys[0], "unpin")
    stage.backend.learner.reconcile(stage.key)
    assert pinned(stage) == [], "it was waited for once"


@pytest.mark.parametrize("does", ["pin", "unpin"])
def test_pinning_does_not_move_the_revision(stage: Stage, does: str) -> None:
    annotation = stage.approve(1)
    version = stage.setup()
    act(stage, key_of(stage, annotation), does)
    assert stage.setup() == version


def test_lists_name_the_pinned_ones(stage: Stage, run: Run) -> None:
    annotations = [stage.approve(seed) for seed in (1, 2)]
    act(stage, key_of(stage, annotations[1]), "pin")
    listed = stage.client.get(f"/api/projects/{stage.key}/examples").json()
    assert [one["pinned"] for one in listed] == [False, True]
    code, out, errors = run(
        "examples", "list", str(stage.project), "--data-dir", str(stage.settings.data_dir)
    )
    assert code == 0, errors
    assert out.count("pinned") == 1
