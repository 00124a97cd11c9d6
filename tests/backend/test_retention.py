"""What was predicted under earlier revisions goes, and only once no approval is compared with it any more."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.store import PredictionRecord
from backend.store.pictures import PREDICTION_SIDE, pack_mask
from tests.backend.redis_server import RedisServer
from tests.backend.stage import Stage, blob, brush

HOUR, DAY = 3600.0, 86_400.0


def predicted(
    stage: Stage, task: int, revision: str, ago: float, mask: NDArray[np.bool_] | None = None
) -> None:
    packed = {} if mask is None else {stage.target: pack_mask(mask, PREDICTION_SIDE)}
    at = time.time() - ago
    stage.backend.store.put_prediction(
        PredictionRecord(stage.key, task, revision, at, 0.5, {stage.target: ("key",)}, packed)
    )


def revisions(stage: Stage, task: int) -> list[str]:
    return [record.revision for record in stage.backend.store.predictions(stage.key, task)]


def settle(stage: Stage) -> None:
    """Show the project to the backend, and let it be compared where it can be."""
    stage.setup()
    look(stage)
    stage.backend.store.set_note(f"tidied:{stage.key}", "0")


def look(stage: Stage) -> None:
    stage.jobs.look()
    stage.work()


@pytest.mark.parametrize("connected", [True, False], ids=["with Label Studio", "without"])
def test_a_look_forgets_what_was_superseded_for_more_than_a_day(
    staging: Callable[..., Stage], connected: bool
) -> None:
    stage = staging(connected=connected)
    settle(stage)
    (task,) = stage.blobs(1)
    for revision, ago in [("r1", 4 * DAY), ("r2", 3 * DAY), ("r3", 2 * DAY), ("r4", HOUR)]:
        predicted(stage, task, revision, ago)
    look(stage)
    assert revisions(stage, task) == ["r4", "r3"]


def test_it_is_looked_for_once_an_hour(stage: Stage) -> None:
    settle(stage)
    (task,) = stage.blobs(1)
    look(stage)
    for revision, ago in [("r1", 3 * DAY), ("r2", 2 * DAY)]:
        predicted(stage, task, revision, ago)
    look(stage)
    assert revisions(stage, task) == ["r2", "r1"]
    stage.backend.store.set_note(f"tidied:{stage.key}", str(time.time() - 1.1 * HOUR))
    look(stage)
    assert revisions(stage, task) == ["r2"]


def test_an_approval_that_is_heard_of_late_is_compared_with_what_was_shown(stage: Stage) -> None:
    settle(stage)
    image, mask = blob(3)
    task = stage.upload(image)
    predicted(stage, task, "r1", 3 * DAY)
    predicted(stage, task, "r2", 2 * DAY, mask)
    predicted(stage, task, "r3", HOUR, ~mask)  # made after the submission, before it was heard of
    look(stage)
    submitted = datetime.fromtimestamp(time.time() - 3 * HOUR, UTC).isoformat()
    stage.submit(task, brush(mask), updated_at=submitted)
    stage.work()
    assert [(one.revision, one.iou) for one in stage.backend.store.kept(stage.key)] == [("r2", 1.0)]


def test_a_correction_long_after_is_compared_with_the_newest(stage: Stage) -> None:
    settle(stage)
    image, mask = blob(3)
    task = stage.upload(image)
    predicted(stage, task, "r1", 4 * DAY, ~mask)
    predicted(stage, task, "r2", 3 * DAY, mask)
    look(stage)
    annotation = stage.submit(task, brush(~mask))
    stage.work()
    stage.correct(annotation, brush(mask))
    stage.work()
    assert [(one.revision, one.iou) for one in stage.backend.store.kept(stage.key)] == [("r2", 1.0)]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def stored(request: pytest.FixtureRequest, staging: Callable[..., Stage], tmp_path: Path) -> Iterator[Stage]:
    """A stage on each engine, with a project that has a superseded prediction of days ago and one of today."""
    with ExitStack() as opened:
        fields = {}
        if request.param == "redis":
            request.getfixturevalue("redis_installed")
            fields["redis_url"] = opened.enter_context(RedisServer(tmp_path / "redis")).url
        stage = staging(**fields)
        stage.setup()
        (task,) = stage.blobs(1)
        for revision, ago in [("r1", 4 * DAY), ("r2", 3 * DAY), ("r3", HOUR)]:
            predicted(stage, task, revision, ago)
        yield stage


def kept_after_tidying(stage: Stage) -> list[str]:
    stage.backend.store.set_note(f"tidied:{stage.key}", "0")
    stage.backend.pre_annotation.tidy(stage.key)
    return revisions(stage, 1)


def test_nothing_goes_before_an_event_that_waits_was_received(stored: Stage) -> None:
    """An approval of days ago that could not be read yet found what was shown to it gone."""
    store = stored.backend.store
    store.mark_reconciled(stored.key, time.time(), "")
    store.add_event(
        "9.1", "ANNOTATION_CREATED", {}, time.time() - 9 * DAY
    )  # of a project that is nothing to this one
    waits = store.add_event(stored.key, "ANNOTATION_CREATED", {}, time.time() - 2.5 * DAY)
    assert kept_after_tidying(stored) == ["r3", "r2", "r1"]
    store.finish_event(waits)
    assert kept_after_tidying(stored) == ["r3", "r2"]


def test_nothing_goes_that_was_not_compared_with_the_export_since(stored: Stage) -> None:
    """An approval that was never told of is found by the comparison, and only then."""
    store = stored.backend.store
    assert kept_after_tidying(stored) == ["r3", "r2", "r1"]
    for revision, ago in [("r-1", 20 * DAY), ("r0", 19 * DAY)]:
        predicted(stored, 1, revision, ago)
    assert kept_after_tidying(stored) == ["r3", "r2", "r1", "r0"], (
        "but for an annotation that can never be read"
    )
    store.mark_reconciled(stored.key, time.time() - 2.5 * DAY, "")
    assert kept_after_tidying(stored) == ["r3", "r2", "r1"]
    store.mark_reconciled(stored.key, time.time() - 1.5 * DAY, "")
    assert kept_after_tidying(stored) == ["r3", "r2"]
