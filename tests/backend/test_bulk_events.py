"""Events about many annotations at once: what they cost, and what one of their annotations does to the others."""

from collections.abc import Callable
from typing import Any

import pytest

from backend.learner import withdrawn
from tests.backend.stage import Stage, blob, brush


def made_in_bulk(stage: Stage, count: int) -> Any:
    """The event of "Create annotations from predictions", which nobody has looked at."""
    task = stage.upload(blob(1)[0])
    region = brush(blob(1)[1], origin="prediction")
    fields = {"updated_by": None, "lead_time": None, "parent_prediction": 5}
    made = [stage.submit(task, region, tell=False, **fields) for _ in range(count)]
    rows = [stage.label_studio.annotations[one] for one in made]
    stage.event("ANNOTATIONS_CREATED", annotation=rows, task=[stage.label_studio.tasks[task]])
    (event,) = stage.backend.store.pending_events()
    return event


class Counted:
    """A store whose calls are counted."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self._store, name)


def test_a_bulk_event_asks_the_store_no_more_for_many_rows_than_for_few(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row was withdrawn by itself, and each time all that waits was read, this event too: minutes for 200 rows."""
    stage.setup()
    stage.work()
    counted = Counted(stage.backend.store)
    monkeypatch.setattr(stage.backend.learner, "_store", counted)
    calls = []
    for count in (2, 40):
        event = made_in_bulk(stage, count)
        counted.calls = 0
        stage.backend.learner.apply(event)
        calls.append(counted.calls)
        stage.backend.store.finish_event(event.id)
    assert calls[0] == calls[1]
    assert withdrawn.noted(stage.backend.store, stage.key) == {}, (
        "before it was made nothing can be told of it"
    )


def test_of_a_list_that_is_tried_again_what_was_deleted_since_stays_away(
    staging: Callable[..., Stage],
) -> None:
    stage = staging(learn_from_bulk=True)
    tasks = [stage.label_studio.tasks[number] for number in stage.blobs(2, first=1)]
    first, second = (
        stage.submit(task["id"], brush(blob(seed)[1]), tell=False) for seed, task in enumerate(tasks, 1)
    )
    rows = [dict(stage.label_studio.annotations[one]) for one in (first, second)]
    path = tasks[1]["data"]["image"]
    upload = stage.label_studio.uploads.pop(path)
    stage.event("ANNOTATIONS_CREATED", annotation=rows, task=tasks)
    stage.work()
    assert stage.pool == [first]
    stage.delete(first)
    stage.work()
    stage.label_studio.uploads[path] = upload
    stage.work(later=True)
    assert stage.pool == [second]
