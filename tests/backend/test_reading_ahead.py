"""Images that are opened before their turn: how many, by their size."""

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from model.segmenter import Query
from tests.backend.served import until
from tests.backend.stage import Stage, by_colour
from tests.backend.test_predictor import Clock, predict


class Held:
    """How many images are held at once; told by several threads."""

    def __init__(self) -> None:
        self._now = self.most = 0
        self._lock = threading.Lock()

    def change(self, by: int) -> None:
        with self._lock:
            self._now += by
            self.most = max(self.most, self._now)


def a_step_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the next one takes as many tasks as it may, however long this machine stood still."""
    for room in ("predictor", "pace"):
        monkeypatch.setattr(f"backend.predictor.{room}.time", Clock())


def test_large_images_are_read_ahead_within_a_bound_however_many_tasks_the_next_step_takes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps' images were opened whatever their size: sixteen of 100 megapixels are five gigabytes."""
    monkeypatch.setattr("backend.predictor.predictor._STEP_PIXELS", 3 * 48 * 64)
    a_step_takes_no_time(monkeypatch)
    stage.approve(1)
    tasks = stage.blobs(16, first=2)
    held = Held()
    step, next_of_it, ahead = 3, 1, 3
    stage_two: list[bool] = []  # only the next task is allowed beside the first, which is alone

    def segment(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        if stage_two:
            until(lambda: held.most > step + next_of_it)
        stage_two.append(True)
        time.sleep(0.1)  # for readers that go too far
        held.change(-len(queries))
        return by_colour(queries)

    really = stage.backend.images.open
    stage.segment_with(segment)

    def open_and_count(url: str, task: int | None = None) -> NDArray[np.uint8]:
        opened = really(url, task)
        held.change(1)
        return opened

    monkeypatch.setattr(stage.backend.images, "open", open_and_count)
    assert list(predict(stage, tasks).done) == tasks
    assert step + next_of_it < held.most <= step + next_of_it + ahead


def test_of_images_that_are_each_above_the_bound_one_is_read_ahead_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.predictor.predictor._STEP_PIXELS", 1)
    a_step_takes_no_time(monkeypatch)
    stage.approve(1)
    tasks = stage.blobs(8, first=2)
    now, next_of_step, ahead = 1, 1, 1
    opened: list[int | None] = []
    seen: list[int] = []
    really = stage.backend.images.open

    def open_and_note(url: str, task: int | None = None) -> NDArray[np.uint8]:
        opened.append(task)
        return really(url, task)

    def segment(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        if seen:  # only the next task is allowed beside the first, which is alone
            until(lambda: len(opened) >= min(len(seen) + now + next_of_step + ahead, len(tasks)))
        time.sleep(0.1)  # for readers that go too far
        seen.append(len(opened))
        return by_colour(queries)

    monkeypatch.setattr(stage.backend.images, "open", open_and_note)
    stage.segment_with(segment)
    assert list(predict(stage, tasks).done) == tasks
    assert all(many <= done + now + next_of_step + ahead for done, many in enumerate(seen))
    assert any(many == done + now + next_of_step + ahead for done, many in enumerate(seen))
    assert sorted(one or 0 for one in opened) == tasks
