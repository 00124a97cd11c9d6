"""Frames of sequences: which examples are near, and what was predicted on the frame before."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend import revision, sequences
from backend.learner.pool import surplus
from backend.predictor.frames import KEPT, LEAST_SCORE
from backend.predictor.predictor import PREVIOUS
from backend.protocol import BEHIND
from backend.sequences import Place
from backend.settings import Settings
from backend.store import ExampleInfo
from model.segmenter import Query
from tests.backend.stage import Stage, blob, brush, reconcile

ON = Settings(sequence_key="clip")


def info(key: str, sequence: str = "a", frame: float | None = None, **fields: Any) -> ExampleInfo:
    number = int(key)
    basis = ExampleInfo(
        key, "1.1", "cell", number, number, "drawn", None, "", 0.5, sequence=sequence, frame=frame
    )
    return replace(basis, **fields)


# -- what is near --------------------------------------------------------------------------------------------------
def test_the_nearest_frames_of_the_own_sequence_come_first_those_without_a_number_last() -> None:
    infos = [
        info("1", frame=9),
        info("2"),
        info("3", "b", 5),
        info("4", frame=3),
        info("5", frame=7),
        info("6"),
    ]
    found = sequences.nearest(Place("a", 5.0), infos, 9)
    assert [one.key for one in found] == ["5", "4", "1", "6", "2"], "of equal ones those approved last"
    assert sequences.nearest(Place("a", 5.0), infos, 2) == found[:2]
    assert [one.key for one in sequences.nearest(Place("a"), infos, 2)] == ["6", "5"]
    assert sequences.nearest(Place("c", 5.0), infos, 9) == []
    infos[2] = replace(infos[2], pinned=True)
    assert sequences.nearest(Place("a", 5.0), infos, 2) == found[:1], (
        "half stays free for what is pinned elsewhere"
    )
    assert sequences.nearest(Place("a", 5.0), infos, 1) == found[:1]


def test_half_of_the_shots_are_enough_where_frames_are_near() -> None:
    assert [sequences.places(shots) for shots in (1, 2, 3, 8, 16)] == [1, 1, 2, 4, 8]


def test_near_goes_by_the_pace_of_the_sequence() -> None:
    here, reach = Place("a", 100.0), sequences.NEAR * 10
    assert sequences.is_near(here, [info("1", frame=100 - reach)], before=90.0)
    assert sequences.is_near(here, [info("1", frame=100 + reach)], before=90.0)
    assert not sequences.is_near(here, [info("1", frame=99 - reach)], before=90.0)
    assert not sequences.is_near(here, [info("1", "b", 100.0), info("2")], before=90.0)


def test_frames_come_in_their_order_and_all_else_stays_where_it_is() -> None:
    rows = [("a", 3), ("b", 9), (None, 0), ("a", 1), ("a", None), ("b", 8), ("a", 2)]
    tasks = [
        {"id": number, "data": {"clip": clip, "frame": frame}} for number, (clip, frame) in enumerate(rows)
    ]
    assert [task["id"] for task in sequences.in_order(tasks, ON)] == [3, 5, 2, 6, 4, 1, 0]
    assert sequences.in_order(tasks, Settings()) == tasks


def test_a_key_says_whether_it_was_predicted_and_on_which_task() -> None:
    assert sequences.predicted_task(sequences.predicted_key("1.17", 42, "ab")) == 42
    assert [sequences.predicted_task(key) for key in ("1.17/prompt/42", "0a1b", "")] == [None] * 3


def test_a_full_pool_keeps_the_last_of_each_sequence_while_anything_else_can_leave() -> None:
    """The first is the likeliest to leave, by age and by likeness, and is the only one of its sequence."""
    alike = np.array([1, 0], np.float32).tobytes()
    others = np.array([0, 1], np.float32).tobytes()
    pool = [
        info("1", "a", descriptor=alike),
        info("2", "b", descriptor=alike),
        info("3", "b", descriptor=others),
        info("4", "", descriptor=others),
    ]
    assert surplus(pool, 3) == ["2"]
    assert surplus(pool[:2], 1) == ["1"], "where each is the last of one"
    assert surplus([replace(one, sequence="") for one in pool], 3) == ["1"]


# -- through a backend ---------------------------------------------------------------------------------------------
SURE = 0.99


def surely(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
    """In place of the network: what is bright is the mask, for sure."""
    return [np.where(query.image.mean(axis=-1) > 120, SURE, 0.001).astype(np.float32) for query in queries]


def unsurely(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
    return [np.where(query.image.mean(axis=-1) > 120, 0.6, 0.2).astype(np.float32) for query in queries]


@pytest.fixture
def clips(staging: Callable[..., Stage]) -> Stage:
    stage = staging(sequence_key="clip", shots=4)
    stage.segment_with(surely)
    stage.setup()
    return stage


def upload(stage: Stage, seed: int, clip: object, frame: object) -> int:
    return stage.upload(blob(seed)[0], clip=clip, frame=frame)


def approve(stage: Stage, seed: int, clip: object, frame: object) -> int:
    """Returns the task."""
    task = upload(stage, seed, clip, frame)
    stage.submit(task, brush(blob(seed)[1]))
    stage.work()
    return task


def behind(stage: Stage, task: int) -> list[int | str]:
    """Tasks whose examples are behind the newest prediction; "predicted N" where nobody has approved it."""
    keys = stage.backend.store.predictions(stage.key, task)[0].context[stage.target]
    tasks = {one.key: one.task for one in stage.backend.store.pool(stage.key)}
    return [tasks[key] if key in tasks else f"predicted {sequences.predicted_task(key)}" for key in keys]


def places(stage: Stage) -> list[tuple[str, float | None]]:
    return [(one.sequence, one.frame) for one in stage.backend.store.pool(stage.key)]


def notes(result: Any) -> list[str]:
    return [text for region in result["result"] for text in region.get("meta", {}).get("text", [])]


def test_a_late_approval_of_another_sequence_joins_a_full_pool(staging: Callable[..., Stage]) -> None:
    stage = staging(sequence_key="clip", pool_size=2)
    stage.setup()
    for seed, clip in enumerate("aaba", 1):
        at = f"2026-03-{9 - seed:02}T08:00:00Z"  # each is older than those before
        stage.submit(upload(stage, seed, clip, seed), brush(blob(seed)[1]), updated_at=at)
        stage.work()
    assert sorted(name for name, _ in places(stage)) == ["a", "b"]


def test_an_approval_keeps_its_place(clips: Stage) -> None:
    approve(clips, 1, "a", "frame_0012.png")
    approve(clips, 2, 7, None)
    approve(clips, 3, ["a"], 3)
    assert places(clips) == [("a", 12.0), ("7", None), ("", None)]


def test_the_nearest_frames_come_first_and_others_fill_up_to_half_of_the_shots(clips: Stage) -> None:
    own = {frame: approve(clips, 1, "a", frame) for frame in (10, 20, 30)}
    like = {seed: approve(clips, seed, "b", 21) for seed in (5, 6, 7)}
    near, sole, other = upload(clips, 5, "a", 28), upload(clips, 5, "b", 22), upload(clips, 5, "c", 1)
    clips.predict(near, sole, other)
    assert behind(clips, near) == [own[30], own[20]]
    assert behind(clips, sole) == [like[7], like[6]], "equally near: those approved last"
    assert len(behind(clips, other)) == 4, "a sequence of which nothing is approved takes the ordinary choice"
    alone = approve(clips, 1, "d", 1)
    filled = upload(clips, 5, "d", 2)
    clips.predict(filled)
    assert behind(clips, filled) == [alone, like[5]], "what looks the same fills up"


def test_without_the_setting_nothing_is_different(staging: Callable[..., Stage]) -> None:
    stage = staging(shots=2)
    stage.segment_with(surely)
    approved = [approve(stage, seed, "a", frame) for seed, frame in ((1, 1), (2, 2), (11, 500))]
    tasks = [upload(stage, seed, "a", frame) for seed, frame in ((11, 3), (12, 1))]
    results = stage.predict(*tasks)
    assert places(stage) == [("", None)] * 3
    assert approved[2] in behind(stage, tasks[0]), "it looks the same, however far away its frame is"
    assert not any("predicted" in str(one) for task in tasks for one in behind(stage, task))
    assert not any(notes(result) for result in results)
    assert stage.backend.store.frame_before(stage.key, stage.target, "a", 9.0) is None
    assert list(stage.backend.learner.reconcile(stage.key).unread) == []
    assert places(stage) == [("", None)] * 3


def test_what_was_predicted_on_the_frame_before_helps_where_none_is_near(clips: Stage) -> None:
    other = approve(clips, 1, "b", 1)
    tasks = {frame: upload(clips, 10 + frame, "a", frame) for frame in (3, 1, 2)}
    results = dict(zip((3, 1, 2), clips.predict(*tasks.values()), strict=True))
    assert behind(clips, tasks[1]) == [other]
    assert behind(clips, tasks[2]) == [other, f"predicted {tasks[1]}"]
    assert behind(clips, tasks[3]) == [other, f"predicted {tasks[2]}"]
    assert notes(results[1]) == []
    assert notes(results[2]) == notes(results[3]) == [PREVIOUS]
    marks = [results[frame]["result"][0]["meta"][BEHIND].get("predicted") for frame in (1, 2, 3)]
    assert marks == [None, [tasks[1]], [tasks[2]]]
    assert [one.task for one in clips.backend.store.pool(clips.key)] == [other], "it is no example"


def test_a_frame_that_was_predicted_earlier_helps_a_later_request(clips: Stage) -> None:
    other = approve(clips, 1, "b", 1)
    first, third = upload(clips, 11, "a", 1), upload(clips, 13, "a", 3)
    for task in (first, third):
        clips.predict(task)
    assert behind(clips, third) == [other, f"predicted {first}"]
    clips.predict(first)
    assert behind(clips, first) == [other], "a later frame is none before it"


def test_near_an_approved_frame_no_prediction_is_asked(clips: Stage) -> None:
    near = approve(clips, 1, "a", 0)
    tasks = [upload(clips, 10 + frame, "a", frame) for frame in (1, 2)]
    clips.predict(*tasks)
    assert behind(clips, tasks[1]) == [near]
    far = [upload(clips, 20 + frame, "a", 1000 + frame) for frame in (1, 2)]
    clips.predict(*far)
    assert behind(clips, far[1]) == [near, f"predicted {far[0]}"]


def test_what_was_not_sure_or_found_nothing_is_not_handed_on(clips: Stage) -> None:
    other = approve(clips, 1, "b", 1)
    clips.segment_with(unsurely)
    unsure = [upload(clips, 10 + frame, "a", frame) for frame in (1, 2)]
    assert all(0 < result["score"] < LEAST_SCORE for result in clips.predict(*unsure))
    assert behind(clips, unsure[1]) == [other]
    clips.segment_with(surely)
    dark = clips.upload(np.full((48, 64, 3), 30, np.uint8), clip="c", frame=1)
    after = upload(clips, 15, "c", 2)
    assert clips.predict(dark, after)[0]["score"] > LEAST_SCORE
    assert behind(clips, after) == [other]


def test_once_a_frame_is_annotated_what_was_predicted_on_it_counts_no_more(clips: Stage) -> None:
    """It was submitted empty: so there is no example of it, and what was predicted there is known to be wrong."""
    other = approve(clips, 1, "b", 1)
    first, second = upload(clips, 11, "a", 1), upload(clips, 12, "a", 2)
    clips.predict(first)
    clips.submit(first)
    clips.work()
    clips.predict(second)
    assert behind(clips, second) == [other]


def test_the_worker_hands_on_from_frame_to_frame(clips: Stage) -> None:
    tasks = {frame: upload(clips, 10 + frame, "a", frame) for frame in (4, 2, 3, 1)}
    approve(clips, 1, "b", 1)
    clips.work(later=True)
    for frame in (2, 3, 4):
        assert behind(clips, tasks[frame])[-1] == f"predicted {tasks[frame - 1]}"
    pushed = {row["task"]: row for row in clips.label_studio.stored_predictions.values()}
    assert notes(pushed[tasks[4]]) == [PREVIOUS]


def test_frames_are_kept_within_bounds_and_go_with_their_tasks(clips: Stage) -> None:
    assert KEPT < 1000
    approve(clips, 1, "b", 1)
    first = upload(clips, 11, "a", 1)
    clips.predict(first)
    store = clips.backend.store
    assert store.frame_before(clips.key, clips.target, "a", 2.0) is not None
    clips.label_studio.tasks[first]["data"]["clip"] = ""
    clips.label_studio.tasks[first]["data"]["image"] += "?again"
    clips.label_studio.uploads[clips.label_studio.tasks[first]["data"]["image"]] = next(
        iter(clips.label_studio.uploads.values())
    )
    clips.predict(first)
    assert store.frame_before(clips.key, clips.target, "a", 2.0) is None, "it is a frame no more"


def test_examples_from_before_the_setting_find_their_places(staging: Callable[..., Stage]) -> None:
    before = staging()
    approve(before, 1, "a", 1)
    assert places(before) == [("", None)]
    reconcile(before)
    assert not before.backend.learner.is_due(before.key)
    version = before.setup()
    before.close()
    after = staging(sequence_key="clip")
    assert after.backend.learner.is_due(after.key)
    learnt = reconcile(after)
    assert (places(after), learnt.moved, after.setup()) == ([("a", 1.0)], False, version)
    assert not after.backend.learner.is_due(after.key)
    task = next(iter(after.label_studio.tasks.values()))
    task["data"] |= {"frame": "frame_9.png"}
    reconcile(after)
    assert places(after) == [("a", 9.0)]


def test_a_smart_tool_takes_near_frames_and_no_prediction(clips: Stage) -> None:
    approve(clips, 1, "b", 1)
    far = approve(clips, 2, "a", 1)
    tasks = [upload(clips, 10 + frame, "a", 1000 + frame) for frame in (1, 2)]
    clips.predict(tasks[0])
    snapshot = revision.take(clips.backend.store, clips.key, clips.backend.checkpoint)
    (target,) = snapshot.ready
    contexts, image = clips.backend.predictor.contexts, blob(12)[0]
    row = clips.label_studio.tasks[tasks[1]]
    for predicted, count in ((False, 2), (True, 3)):
        context = contexts.choose(
            snapshot, target, tasks[1], image, contexts.frames.place(row), predicted=predicted
        )
        assert len(context) == count
    assert far in [one.task for one in snapshot.pool[target.id]]


def test_the_page_says_what_was_predicted_on_the_frame_before(clips: Stage) -> None:
    approve(clips, 1, "b", 1)
    tasks = [upload(clips, 10 + frame, "a", frame) for frame in (1, 2)]
    clips.predict(*tasks)
    shown = clips.client.get(f"/projects/{clips.key}/tasks/{tasks[1]}").text
    assert "what was predicted on the frame before" in shown
    assert f'href="/projects/{clips.key}/tasks/{tasks[0]}"' in shown
    (told,) = clips.client.get(f"/api/projects/{clips.key}/tasks/{tasks[1]}/predictions").json()
    assert sequences.predicted_task(told["context"][clips.target][-1]) == tasks[0]
