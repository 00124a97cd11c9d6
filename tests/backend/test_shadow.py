"""Shadows: what predicts silently beside what is in use, and is compared with it on what was submitted."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend import shadows
from backend.revision import take
from backend.shadows import Shadow
from model.segmenter import Query
from tests.backend.loopback import Answer
from tests.backend.redis_server import RedisServer
from tests.backend.stage import Stage, blob, brush, half, mask_of
from tests.backend.test_prompts import add

Staging = Callable[..., Stage]


def by_prompts_whole(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
    """In place of the network: a prompt finds the disc, examples alone the upper half of it."""
    found = []
    for query in queries:
        disc = query.image[..., 0] > 150
        seen = disc if query.context.prompt is not None else half(disc)
        found.append(np.where(seen, 0.9, 0.05).astype(np.float32))
    return found


def start(
    stage: Stage, prompt: int | None = None, submissions: int = 20, target: str | None = None
) -> Shadow:
    store, checkpoint = stage.backend.store, stage.backend.checkpoint
    return shadows.start(store, take(store, stage.key, checkpoint), checkpoint, prompt, target, submissions)


def newest(stage: Stage) -> Shadow:
    return shadows.read(stage.backend.store, stage.key)[0]


def upload(stage: Stage, seed: int) -> int:
    """A task that was predicted for whoever opened it."""
    task = stage.upload(blob(seed)[0])
    stage.predict(task)
    return task


def submit(stage: Stage, seed: int, task: int | None = None) -> int:
    """Somebody draws the disc on a task that was predicted; the worker has not heard of it yet."""
    return stage.submit(upload(stage, seed) if task is None else task, brush(blob(seed)[1]))


@pytest.fixture
def two(stage: Stage) -> Stage:
    """Two approved masks, and a prompt that is better than they are."""
    return prepared(stage)


def prepared(stage: Stage) -> Stage:
    stage.segment_with(by_prompts_whole)
    for seed in (1, 2):
        stage.approve(seed)
    add(stage)
    return stage


# -- what is compared ----------------------------------------------------------------------------------------------
def test_a_prompt_is_compared_with_examples_on_as_many_submissions_as_it_was_started_for(two: Stage) -> None:
    submit(two, 10)
    two.work()
    start(two, 1, 3)
    annotations = []
    for seed in (11, 12, 13, 14):
        annotations.append(submit(two, seed))
        assert ("shadow" in two.work()) == (seed < 14)
    found = newest(two)
    assert [pair.annotation for pair in found.pairs] == annotations[:3]
    assert [pair.shadow for pair in found.pairs] == [1.0] * 3
    kept = {row.annotation: row.iou for row in two.backend.store.kept(two.key)}
    assert [pair.shown for pair in found.pairs] == [kept[number] for number in annotations[:3]]
    assert all(0.4 < pair.shown < 0.6 for pair in found.pairs)
    assert (found.ended is not None, found.reason) == (True, "It has been compared on 3 submissions.")
    assert (found.waiting, found.missed) == ((), 0)


def test_examples_alone_are_compared_with_the_prompt_in_use(two: Stage) -> None:
    two.backend.prompts.activate(two.key, 1)
    start(two)
    submit(two, 11)
    two.work()
    (pair,) = newest(two).pairs
    assert (pair.shown, 0.4 < pair.shadow < 0.6) == (1.0, True)
    assert (newest(two).prompt, newest(two).against) == (None, 1)


def test_the_gate_s_word_on_how_a_prompt_is_used_holds_for_its_shadow(two: Stage) -> None:
    beside = add(two, uses="both")
    seen: list[tuple[int, int]] = []

    def watched(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        seen.extend((query.context.prompt is not None, len(query.context.examples)) for query in queries)
        return by_prompts_whole(queries)

    for number, expected in ((1, (True, 0)), (beside, (True, 2))):
        start(two, number, 1)
        submit(two, 20 + number)
        two.segment_with(watched)
        two.work()
        assert expected in seen
        two.segment_with(by_prompts_whole)
        seen.clear()


def test_neither_a_submission_nor_what_was_approved_after_its_prediction_is_an_example_of_its_shadow(
    staging: Staging,
) -> None:
    two = prepared(staging(pre_annotate="off"))
    two.backend.prompts.activate(two.key, 1)
    task = upload(two, 11)
    two.approve(5, updated_at=f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}")
    start(two)
    used: list[tuple[Any, ...]] = []

    def watched(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        used.extend(
            tuple(example.key for example in query.context.examples)
            for query in queries
            if query.context.prompt is None
        )
        return by_prompts_whole(queries)

    two.segment_with(watched)
    submit(two, 11, task)
    two.work()
    first = [info.key for info in two.backend.store.pool(two.key)][:2]
    assert used == [tuple(first)]
    assert len(newest(two).pairs) == 1


def test_where_the_submission_is_the_only_example_there_is_nothing_to_compare(stage: Stage) -> None:
    stage.segment_with(by_prompts_whole)
    only = stage.approve(1)
    add(stage, activate=True)
    start(stage)
    task = upload(stage, 11)
    stage.delete(only)
    shown = stage.backend.store.predictions(stage.key, task)[0].at
    when = datetime.fromtimestamp(shown, UTC).isoformat()  # so that its time does not tell it from others
    stage.submit(task, brush(blob(11)[1]), updated_at=when)
    stage.work()
    assert (newest(stage).pairs, newest(stage).missed) == ((), 1)


def test_no_more_wait_than_are_wanted(two: Stage) -> None:
    start(two, 1, 2)
    for seed in (11, 12, 13):
        submit(two, seed)
    two.work(lane=two.jobs.events)
    assert len(newest(two).waiting) == 2


def test_an_absent_label_that_both_leave_out_is_kept_entirely(two: Stage) -> None:
    start(two, 1)
    image = np.full((48, 64, 3), 30, np.uint8)
    task = two.upload(image)
    two.predict(task)
    two.submit(task)
    two.work()
    assert [(pair.shown, pair.shadow) for pair in newest(two).pairs] == [(1.0, 1.0)]


# -- what is not counted -------------------------------------------------------------------------------------------
def test_what_was_not_predicted_by_what_it_is_compared_with_is_not_counted(two: Stage) -> None:
    before = upload(two, 11)
    two.backend.prompts.activate(two.key, 1)
    start(two)
    submit(two, 11, before)
    two.submit(two.upload(blob(12)[0]), brush(blob(12)[1]))  # never predicted
    assert "shadow" not in two.work()
    assert (newest(two).pairs, newest(two).waiting) == ((), ())


def test_a_task_that_the_prompt_has_learned_from_is_not_counted_though_its_annotation_is_gone(
    two: Stage,
) -> None:
    task = upload(two, 11)
    annotation = submit(two, 11, task)
    two.work()
    learned = add(two, examples=tuple(info.key for info in two.backend.store.pool(two.key)))
    start(two, learned)
    two.correct(annotation, brush(half(blob(11)[1])))
    two.work()
    two.delete(annotation)
    two.work()
    submit(two, 11, task)
    two.work()
    assert (newest(two).pairs, newest(two).waiting) == ((), ())


def test_a_task_counts_once_by_its_first_annotation(two: Stage) -> None:
    start(two, 1)
    task = upload(two, 11)
    first = submit(two, 11, task)
    two.work()
    two.submit(task, brush(half(blob(11)[1])), completed_by=9)
    two.work()
    assert [pair.annotation for pair in newest(two).pairs] == [first]


def test_what_is_withdrawn_before_its_turn_makes_room_for_another_one(two: Stage) -> None:
    start(two, 1, 1)
    gone = submit(two, 11)
    two.jobs.predictions.flush()
    two.work(lane=two.jobs.events)
    two.delete(gone)
    two.work()
    assert (newest(two).pairs, newest(two).missed, newest(two).ended) == ((), 1, None)
    annotation = submit(two, 12)
    two.work()
    assert [pair.annotation for pair in newest(two).pairs] == [annotation]


def test_a_correction_replaces_what_was_compared_as_long_as_the_shadow_runs(two: Stage) -> None:
    start(two, 1, 2)
    annotation = submit(two, 11)
    two.work()
    two.correct(annotation, brush(half(blob(11)[1])))
    two.work()
    (pair,) = newest(two).pairs
    assert (pair.annotation, pair.shown, 0.4 < pair.shadow < 0.6) == (annotation, 1.0, True)
    submit(two, 12)
    two.work()
    two.correct(annotation, brush(blob(11)[1]))
    two.work()
    assert newest(two).pairs[0] == pair


# -- silent --------------------------------------------------------------------------------------------------------
def known_to_others(stage: Stage) -> Any:
    """All that Label Studio has, answers would say, and predictions are kept as."""
    tasks = sorted(stage.label_studio.tasks)
    return (
        stage.label_studio.stored_predictions,
        stage.label_studio.annotations,
        [stage.backend.store.predictions(stage.key, task) for task in tasks],
        stage.backend.store.project(stage.key),
        stage.backend.store.task_states(stage.key),
        stage.backend.store.kept(stage.key),
        stage.setup(),
    )


def test_nobody_sees_anything_of_a_shadow(two: Stage) -> None:
    """Compared before and after the shadow's own work, so that nothing else can have hidden it."""
    version, asked = two.setup(), two.upload(blob(30)[0])
    before_it = two.predict(asked)
    start(two, 1)
    assert two.setup() == version
    task = upload(two, 11)
    submit(two, 11, task)
    two.work(lane=two.jobs.events)
    two.jobs.predictions.flush()
    assert len(newest(two).waiting) == 1
    known = repr(known_to_others(two))
    two.jobs.shadow(two.key)
    assert two.work() == ["shadow"]
    assert len(newest(two).pairs) == 1
    assert repr(known_to_others(two)) == known
    (answer,) = two.predict(asked)
    assert "-p" not in answer["model_version"]
    (region,), (region_before,) = answer["result"], before_it[0]["result"]
    assert (mask_of(region) == mask_of(region_before)).all()


def test_frames_of_sequences_are_not_remembered_by_a_shadow(staging: Staging) -> None:
    stage = prepared(staging(sequence_key="video"))
    start(stage, 1)
    task = stage.upload(blob(11)[0], video="a", frame=7)
    stage.predict(task)
    seen = stage.backend.store.frame_before(stage.key, stage.target, "a", 8)
    submit(stage, 11, task)
    stage.work()
    assert len(newest(stage).pairs) == 1
    assert stage.backend.store.frame_before(stage.key, stage.target, "a", 8) == seen is not None


def test_a_worker_that_ends_leaves_it_to_the_next(two: Stage) -> None:
    start(two, 1)
    for seed in (11, 12):
        submit(two, seed)
        two.work(lane=two.jobs.events)
    two.jobs.predictions.flush()
    assert two.backend.shadowing.step(two.key, lambda: True)
    assert not two.backend.shadowing.step(two.key, lambda: False)
    assert (len(newest(two).pairs), len(newest(two).waiting)) == (1, 1)
    two.jobs.stopping.set()
    two.jobs.shadow(two.key)
    two.work()
    assert len(newest(two).waiting) == 1
    two.jobs.stopping.clear()
    two.jobs.look()
    two.work()
    assert (len(newest(two).pairs), len(newest(two).waiting)) == (2, 0)


# -- exactly once --------------------------------------------------------------------------------------------------
@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of an engine."""
    if request.param == "sqlite":
        yield {}
    else:
        request.getfixturevalue("redis_installed")
        with RedisServer(tmp_path / "redis") as server:
            yield {"redis_url": server.url}


def test_what_a_worker_that_was_killed_had_begun_is_done_once_by_the_next(
    staging: Staging, engine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = prepared(staging(**engine))
    start(killed, 1)
    annotation = submit(killed, 11)
    killed.work(lane=killed.jobs.events)
    killed.jobs.predictions.flush()

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(shadows, "predicted", die)  # after it was predicted, before that was noted
        with pytest.raises(Killed):
            killed.backend.shadowing.step(killed.key, lambda: True)
    assert killed.backend.store.acquire(f"shadow:{killed.key}", "the dead", 3600)
    survivor = staging(**engine)
    survivor.segment_with(by_prompts_whole)
    survivor.jobs.shadow(survivor.key)
    survivor.work()
    assert len(newest(survivor).waiting) == 1
    survivor.backend.store.release(f"shadow:{survivor.key}", "the dead")  # as time does
    survivor.jobs.look()
    survivor.work()
    assert newest(survivor).waiting == ()
    survivor.jobs.shadow(survivor.key)
    survivor.work()
    assert [(pair.annotation, pair.shadow) for pair in newest(survivor).pairs] == [(annotation, 1.0)]


def test_two_workers_count_every_submission_once(staging: Staging, engine: dict[str, str]) -> None:
    """Both work at once without the lease that keeps them apart: the notes alone must do."""
    one = prepared(staging(**engine))
    other = staging(**engine)
    other.segment_with(by_prompts_whole)
    start(one, 1)
    annotations = []
    for seed in range(11, 17):
        annotations.append(submit(one, seed))
        one.work(lane=one.jobs.events)

    def work(stage: Stage) -> None:
        while newest(stage).waiting:
            assert stage.backend.shadowing.step(stage.key, lambda: True)

    threads = [threading.Thread(target=work, args=(each,)) for each in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = newest(one)
    assert [pair.annotation for pair in found.pairs] == annotations
    assert (found.waiting, found.missed) == ((), 0)


def test_a_picture_that_is_not_to_be_had_now_waits_and_one_that_is_gone_is_missed(staging: Staging) -> None:
    stage = prepared(staging(image_cache_bytes=0))
    start(stage, 1)
    submit(stage, 11)
    stage.work(lane=stage.jobs.events)
    stage.jobs.predictions.flush()
    stage.label_studio.failures = [Answer(503)] * 50
    assert not stage.backend.shadowing.step(stage.key, lambda: True)
    assert (len(newest(stage).waiting), newest(stage).missed) == (1, 0)
    stage.label_studio.failures = []
    stage.label_studio.uploads.clear()
    assert stage.backend.shadowing.step(stage.key, lambda: True)
    assert (newest(stage).waiting, newest(stage).pairs, newest(stage).missed) == ((), (), 1)
