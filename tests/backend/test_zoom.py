"""Small objects through the backend: a nearer look, what it may cost at a deadline, and specks that are none."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend import revision
from backend.calibrations import read_whole
from backend.predictor import Predictions
from model import zoom
from model.edges import ProbabilityMap
from model.segmenter import Query, Segmenter
from tests.backend.stage import Run, Stage, brush, by_colour, mask_of

SIDE, SMALL = 240, 12  # pixels
EXAMPLE, TASK = ((20, 30), (150, 90)), ((60, 200), (181, 35))


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.7e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    for module in ("backend.predictor.predictor", "backend.predictor.pace", "model.zoom"):
        monkeypatch.setattr(f"{module}.time", stopped)
    return stopped


def picture(
    corners: Sequence[tuple[int, int]], side: int = SMALL
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    for top, left in corners:
        mask[top : top + side, left : left + side] = True
    image = np.full((SIDE, SIDE, 3), 60, dtype=np.uint8)
    image[mask] = (220, 60, 60)
    return image, mask


def look_by_colour(stage: Stage, took: Callable[[], None] = lambda: None) -> list[Query]:
    """What has the examples' colour is found, as well as the network's few pixels allow; returns what was asked."""
    size = stage.backend.segmenter.image_size
    asked: list[Query] = []

    def maps(queries: Sequence[Query]) -> list[ProbabilityMap]:
        found = []
        for query, likely in zip(queries, by_colour(queries), strict=True):
            asked.append(query)
            took()
            small = cv2.resize(likely, (size, size), interpolation=cv2.INTER_AREA)
            height, width = query.image.shape[:2]
            found.append(ProbabilityMap(np.asarray(small, np.float32), height, width))
        return found

    stage.backend.segmenter.maps = maps  # type: ignore[method-assign]  # as `Stage.segment_with`
    return asked


def taught(stage: Stage, side: int = SMALL) -> tuple[set[int], int, NDArray[np.bool_]]:
    """Two approvals with small objects, learned; a task with others, and where they are."""
    image, mask = picture(EXAMPLE, side)
    annotations = {stage.submit(stage.upload(image), brush(mask)) for _ in range(zoom.LEAST_EXAMPLES)}
    stage.work()
    other, wanted = picture(TASK, side)
    return annotations, stage.upload(other), wanted


def predict(stage: Stage, *tasks: int, **given: Any) -> Predictions:
    snapshot = revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)
    rows = [stage.label_studio.tasks[task] for task in tasks]
    return stage.backend.predictor.predict(snapshot, rows, **given)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_small_objects_get_a_nearer_look_and_the_context_is_recorded_as_always(
    staging: Callable[..., Stage],
) -> None:
    found = {}
    for setting in ("off", "auto"):
        stage = staging(zoom=setting, edges="off")
        asked = look_by_colour(stage)
        annotations, task, wanted = taught(stage)
        (region,) = predict(stage, task).done[task].result
        found[setting] = iou(mask_of(region), wanted)
        assert (len(asked) > 1) == (setting == "auto")
        (record,) = stage.backend.store.predictions(stage.key, task)
        taught_by = {info.key: info.annotation for info in stage.backend.store.pool(stage.key)}
        assert {taught_by[key] for key in record.context[stage.target]} == annotations
        for annotation in annotations:
            stage.delete(annotation)
        stage.work()
    assert found["auto"] > found["off"] + 0.1
    assert found["auto"] > 0.8


def test_a_nearer_look_that_would_end_after_the_deadline_of_a_request_is_left_over(
    stage: Stage, clock: Clock
) -> None:
    """Each look takes a second; the first one is made, and the nearer ones need more than is left."""

    def took() -> None:
        clock.now += 1

    asked = look_by_colour(stage, took)
    _, task, _ = taught(stage)
    next_one = stage.upload(picture(TASK)[0])
    strict = predict(stage, task, next_one, deadline=clock.now + 1.5, strict=True)
    assert (strict.done, strict.unreached) == ({}, (task, next_one))
    assert len(asked) == 1
    enough = predict(stage, task, deadline=clock.now + 60, strict=True)
    assert enough.done.keys() == {task}
    assert not enough.unreached


def test_the_worker_finishes_what_it_has_begun(stage: Stage, clock: Clock) -> None:
    """Else a task whose looks take longer than one of the worker's steps would never be done."""

    def took() -> None:
        clock.now += 1

    asked = look_by_colour(stage, took)
    _, task, _ = taught(stage)
    assert predict(stage, task, deadline=clock.now + 1.5).done.keys() == {task}
    assert len(asked) > 2


def test_what_needs_no_nearer_look_is_answered_though_another_task_is_left_over(
    stage: Stage, clock: Clock
) -> None:
    def took() -> None:
        clock.now += 1

    look_by_colour(stage, took)
    _, task, _ = taught(stage)
    empty = stage.upload(picture([])[0])
    found = predict(stage, empty, task, deadline=clock.now + 3, strict=True)
    assert found.done.keys() == {empty}
    assert found.unreached == (task,)


def test_requests_are_strict(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    really = stage.backend.predictor.predict

    def spy(*given: Any, **named: Any) -> Predictions:
        seen.append(named)
        return really(*given, **named)

    monkeypatch.setattr(stage.backend.predictor, "predict", spy)
    _, task, _ = taught(stage)
    stage.predict(task)
    assert seen[-1]["strict"]


def test_maps_of_queries_end_where_the_time_does(stage: Stage, clock: Clock) -> None:
    def took() -> None:
        clock.now += 1

    look_by_colour(stage, took)
    _, task, _ = taught(stage)
    snapshot = revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)
    image = picture(TASK)[0]
    context = stage.backend.predictor.contexts.choose(snapshot, snapshot.ready[0], task, image)
    query = Query(image, context)
    segmenter = stage.backend.segmenter
    assert len(zoom.maps(segmenter, [query] * 3, [False] * 3, until=clock.now)) == 3
    assert len(zoom.maps(segmenter, [query] * 3, [True] * 3)) == 3
    assert len(zoom.maps(segmenter, [query] * 3, [False, True, False], until=clock.now)) == 1
    began = clock.now
    zoom.maps(segmenter, [query], [True])
    once = clock.now - began
    assert len(zoom.maps(segmenter, [query] * 3, [True] * 3, until=clock.now + once + 2)) == 1


def test_measuring_tells_where_a_nearer_look_does_not_pay(stage: Stage) -> None:
    """First a network that sees more in tiles, then one that sees all at once: each is looked with as pays."""
    store, project, checkpoint = stage.backend.store, stage.key, stage.backend.checkpoint
    look_by_colour(stage)
    taught(stage)
    other, mask = picture(((40, 40), (140, 200)))
    stage.submit(stage.upload(other), brush(mask))
    stage.work()
    stage.backend.alarm.measure(project)
    assert not read_whole(store, project, checkpoint)
    stage.segment_by_colour()
    stage.backend.alarm.measure(project)
    assert read_whole(store, project, checkpoint) == {stage.target}
    asked = look_by_colour(stage)
    predict(stage, stage.upload(picture(TASK)[0]))
    assert len(asked) == 1
    assert read_whole(store, project, "another") == frozenset()


def test_objects_as_small_as_the_approved_ones_are_no_specks(staging: Callable[..., Stage]) -> None:
    """Nine pixels of 240 x 240 are less than MIN_AREA: every one of them was dropped from every prediction."""
    stage = staging(min_area=0.0002, edges="off")
    stage.segment_by_colour()
    _, task, wanted = taught(stage, side=3)
    assert wanted.sum() / 2 < 0.0002 * wanted.size
    (region,) = predict(stage, task).done[task].result
    assert (mask_of(region) == wanted).all()


# -- evaluate ------------------------------------------------------------------------------------------------------
def test_evaluate_looks_as_zoom_says(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[Query] = []
    really = zoom.plan

    def plan(segmenter: Segmenter, query: Query, first: ProbabilityMap) -> zoom.Look | None:
        planned.append(query)
        return really(segmenter, query, first)

    monkeypatch.setattr(zoom, "plan", plan)
    for number in range(3):
        image, mask = picture(((20 + 30 * number, 30), (150, 200 - 40 * number)))
        for part, content in (("images", image), ("masks", mask.astype(np.uint8))):
            (tmp_path / "spots" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(tmp_path / "spots" / part / f"{number}.png")
    for setting in ("off", "auto"):
        report = tmp_path / "report.json"
        options = ("--shots", "2", "--zoom", setting, "--json", str(report))
        code, _, err = run("evaluate", str(tmp_path / "spots"), *options)
        assert (code, err) == (0, "")
        (row,) = json.loads(report.read_text())["rows"]
        assert len(planned) == (row["queries"] if setting == "auto" else 0)
        assert list(row) == ["shots", "method", "miou", "seconds_per_image", "queries"]
    code, _, err = run("evaluate", str(tmp_path / "spots"), "--zoom", "near")
    assert code == 1
    assert "ZOOM" in err
    code, _, err = run("evaluate", str(tmp_path), "--protocol", "fss1000", "--zoom", "off")
    assert code == 1
    assert "do not go with --protocol" in err
