"""Shadows: what is not compared as it would not be fair, and what one submission must not do to the others."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.errors import ImageError, StoreError, Unauthorized, Unreachable
from backend.learner.kept import left_of
from backend.pre_annotation import PREDICTING
from backend.sequences import predicted_task
from backend.shadows.records import Waiting, packed
from backend.store.pictures import PREDICTION_SIDE, pack_mask
from model.segmenter import Query
from tests.backend.loopback import Answer
from tests.backend.stage import Stage, blob, brush, data_uri, png
from tests.backend.test_prompts import add
from tests.backend.test_sequences import approve as approve_frame
from tests.backend.test_sequences import behind, surely
from tests.backend.test_sequences import upload as upload_frame
from tests.backend.test_shadow import newest, prepared, start, submit, upload

Staging = Callable[..., Stage]


@pytest.fixture
def two(stage: Stage) -> Stage:
    """Two approved masks, and a prompt that is better than they are."""
    return prepared(stage)


def learn(stage: Stage) -> None:
    """Let the worker learn what was submitted, and no shadow predict it yet."""
    stage.work(lane=stage.jobs.events)
    stage.jobs.predictions.flush()


# -- frames of sequences -------------------------------------------------------------------------------------------
@pytest.fixture
def clips(staging: Staging) -> Stage:
    """Frames of one clip approved, and a prompt that is used beside examples."""
    stage = staging(sequence_key="clip", shots=4, pre_annotate="off")
    stage.segment_with(surely)
    stage.setup()
    for frame in (1, 2):
        approve_frame(stage, frame, "b", frame)
    start(stage, add(stage, uses="both"))
    return stage


def test_what_a_predicted_frame_helped_with_is_not_counted(clips: Stage) -> None:
    first, second = (upload_frame(clips, 10 + frame, "a", frame) for frame in (1, 2))
    clips.predict(first, second)
    assert f"predicted {first}" in behind(clips, second)
    clips.submit(second, brush(blob(12)[1]))
    learn(clips)
    assert newest(clips).waiting == ()
    clips.submit(first, brush(blob(11)[1]))
    learn(clips)
    assert [one.task for one in newest(clips).waiting] == [first]


def test_what_was_predicted_since_on_the_frame_before_does_not_help_a_shadow(clips: Stage) -> None:
    """It would be by the submission itself, or by what was learned of it."""
    first, second = (upload_frame(clips, 10 + frame, "a", frame) for frame in (1, 2))
    clips.predict(second)
    clips.submit(second, brush(blob(12)[1]))
    learn(clips)
    clips.predict(first)
    used: list[str] = []

    def watched(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        used.extend(example.key for query in queries for example in query.context.examples)
        return surely(queries)

    clips.segment_with(watched)
    assert clips.backend.shadowing.step(clips.key, lambda: True)
    assert len(newest(clips).pairs) == 1
    assert [predicted_task(key) for key in used] == [None] * 2


# -- what is compared ----------------------------------------------------------------------------------------------
def test_what_was_shown_before_the_prompt_was_made_is_not_counted(two: Stage) -> None:
    """By fewer examples than the prompt has learned from."""
    before, after = two.blobs(2, 11)
    two.predict(before)
    (shown,) = two.backend.store.predictions(two.key, before)
    start(two, add(two, created=shown.at + 1e-3))
    two.submit(before, brush(blob(11)[1]))
    two.work()
    assert (newest(two).waiting, newest(two).pairs) == ((), ())
    two.predict(after)
    two.submit(after, brush(blob(12)[1]))
    two.work()
    assert [pair.task for pair in newest(two).pairs] == [after]


@pytest.mark.parametrize("predicted", [True, False])
def test_a_task_counts_once_though_its_annotation_was_deleted(two: Stage, predicted: bool) -> None:
    start(two, 1)
    task = upload(two, 11)
    annotations = [submit(two, 11, task), submit(two, 12)]
    if predicted:
        two.work()
    else:
        learn(two)
    two.delete(annotations[0])
    learn(two)
    assert submit(two, 11, task) not in annotations
    learn(two)
    found = newest(two)
    counted = [pair.annotation for pair in found.pairs] + [waits.annotation for waits in found.waiting]
    assert counted == annotations


# -- what is noted -------------------------------------------------------------------------------------------------
def test_pictures_do_not_come_into_the_note_and_masks_come_shrunk(two: Stage) -> None:
    start(two, 1)
    image = np.random.default_rng(1).integers(0, 60, (700, 1400, 3)).astype(np.uint8)
    random = np.random.default_rng(2).random((700, 1400)) > 0.5
    image[random] = [230, 200, 60]
    task = two.label_studio.add_task(two.project, data_uri(png(image)), more="x" * 100_000)
    two.predict(task)
    two.submit(task, brush(random))
    learn(two)
    (waits,) = newest(two).waiting
    assert waits.submitted is not None
    assert waits.submitted.shape == (256, PREDICTION_SIDE)
    assert len(two.backend.store.note(f"shadows:{two.key}") or "") < 40_000
    two.jobs.look()
    two.work()
    (pair,) = newest(two).pairs
    assert pair.shadow > 0.9, "the picture is had again"


@pytest.mark.parametrize("size", [(48, 64), (512, 512), (513, 700), (2000, 31), (1081, 1921)], ids=str)
@pytest.mark.parametrize("density", [1e-4, 0.5])
def test_what_is_left_is_the_same_of_a_shrunk_mask(size: tuple[int, int], density: float) -> None:
    random = np.random.default_rng(3)
    submitted = random.random(size) < density
    submitted[0, 0] = True  # even the sparsest
    predicted = pack_mask(random.random(size) < 0.9, PREDICTION_SIDE)
    waits = Waiting(task=1, annotation=1, shown=0.0, at=0.0, mask=packed(submitted))
    assert left_of(predicted, waits.submitted) == left_of(predicted, submitted) > 0


# -- what is in the way --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "cause", [Unreachable("late", slow=True), Unauthorized("refused", status=401)], ids=["late", "refused"]
)
def test_a_picture_that_cannot_be_had_though_label_studio_is_there_does_not_block_others(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    stage = prepared(staging(image_cache_bytes=0))
    start(stage, 1)
    for seed in (11, 12):
        submit(stage, seed)
    learn(stage)
    first, second = newest(stage).waiting
    real = stage.backend.images.open

    def opened(url: str, task: int) -> Any:
        if task == first.task:
            raise ImageError("not to be had") from cause
        return real(url, task)

    monkeypatch.setattr(stage.backend.images, "open", opened)
    stage.jobs.look()
    stage.work()
    found = newest(stage)
    assert (found.waiting, [pair.task for pair in found.pairs], found.missed) == ((), [second.task], 1)


def test_a_task_that_is_gone_is_missed(two: Stage) -> None:
    start(two, 1)
    for seed in (11, 12):
        submit(two, seed)
    learn(two)
    first, second = newest(two).waiting
    del two.label_studio.tasks[first.task]
    two.jobs.look()
    two.work()
    assert ([pair.task for pair in newest(two).pairs], newest(two).missed) == ([second.task], 1)


def test_a_task_of_another_project_that_has_the_number_now_is_missed(
    two: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    start(two, 1)
    submit(two, 11)
    learn(two)
    key, project = two.key, two.label_studio.projects[two.project]
    created = project["created_at"]
    project["created_at"] = "2026-02-02T00:00:00Z"
    assert two.backend.shadowing.step(key, lambda: True)
    project["created_at"] = created
    assert (newest(two).waiting, newest(two).pairs, newest(two).missed) == ((), (), 1)
    assert "no longer what Label Studio has under number 1" in caplog.text


def test_what_goes_wrong_unforeseen_is_not_tried_for_ever(
    two: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At each look it was tried anew, and neither it nor what waited behind it was ever compared."""
    start(two, 1)
    for seed in (11, 12):
        submit(two, seed)
    learn(two)
    first, second = newest(two).waiting
    real, calls = two.backend.predictor.shown, iter(range(10))

    def shown(*given: Any) -> Any:
        if next(calls) == 0:
            raise RuntimeError("an illegal memory access")
        return real(*given)

    monkeypatch.setattr(two.backend.predictor, "shown", shown)
    two.jobs.look()
    two.work()
    assert ([waits.task for waits in newest(two).waiting], newest(two).missed) == ([second.task], 1), (
        "a broken device costs one at a look, not all that wait"
    )
    two.jobs.look()
    two.work()
    found = newest(two)
    assert (found.waiting, [pair.task for pair in found.pairs], found.missed) == ((), [second.task], 1)
    assert f"task {first.task}: not predicted by a shadow" in caplog.text
    assert "an illegal memory access" in caplog.text


def test_while_the_store_is_away_all_wait(two: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise StoreError("The disk is full.")

    start(two, 1)
    submit(two, 11)
    learn(two)
    with monkeypatch.context() as trouble:
        trouble.setattr(two.backend.predictor, "shown", away)
        with pytest.raises(StoreError):
            two.backend.shadowing.step(two.key, lambda: True)
    assert (len(newest(two).waiting), newest(two).missed) == (1, 0)


def test_while_label_studio_is_away_all_wait(two: Stage) -> None:
    start(two, 1)
    submit(two, 11)
    learn(two)
    two.label_studio.failures = [Answer(401)] * 50
    assert not two.backend.shadowing.step(two.key, lambda: True)
    two.label_studio.failures = []
    assert (len(newest(two).waiting), newest(two).missed) == (1, 0)
    assert two.backend.shadowing.step(two.key, lambda: True)
    assert len(newest(two).pairs) == 1


def test_without_label_studio_s_address_it_ends_and_says_why(staging: Staging) -> None:
    connected = prepared(staging())
    start(connected, 1)
    submit(connected, 11)
    learn(connected)
    away = staging(connected=False)
    away.jobs.shadow(away.key)
    away.work()
    assert "LABEL_STUDIO_URL" in newest(away).reason


def test_where_shadows_are_kept_busy_a_submission_is_learned_without_them(
    two: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(two, 1)
    monkeypatch.setattr("backend.shadows.records._PATIENCE", 0.0)
    two.backend.store.acquire(f"changing:shadows:{two.key}", "somebody", 3600)
    annotation = submit(two, 11)
    assert "pre_annotate" in two.work()
    assert annotation in two.pool
    assert not two.backend.store.waiting_events()
    assert newest(two).waiting == ()


def test_requests_go_first(two: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    start(two, 1)
    submit(two, 11)
    learn(two)
    two.backend.store.acquire(f"{PREDICTING}1", "a request", 3600)
    waited: list[int] = []

    def wait(_seconds: float) -> bool:
        waited.append(len(newest(two).pairs))
        if len(waited) == 3:
            two.backend.store.release(f"{PREDICTING}1", "a request")
        return False

    monkeypatch.setattr(two.jobs.stopping, "wait", wait)
    two.jobs.shadow(two.key)
    two.work()
    assert waited == [0, 0, 0]
    assert len(newest(two).pairs) == 1


def test_a_note_names_no_more_than_it_must(two: Stage) -> None:
    start(two, 1)
    submit(two, 11)
    learn(two)
    ((waits,),) = [one["waiting"] for one in json.loads(two.backend.store.note(f"shadows:{two.key}") or "")]
    assert sorted(waits) == ["annotation", "at", "mask", "shown", "task"]
