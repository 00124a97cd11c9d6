"""Examples taken out of use and put back, by the admin API and the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from backend import dropped, reading_again
from backend.errors import NotFound
from backend.store import StoredExample
from backend.store.leases import leased
from tests.backend.stage import Run, Stage, blob, brush, example_of

TWO_LABELS = """<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">
<Label value="cell"/><Label value="debris"/></BrushLabels></View>"""


def api(stage: Stage, rest: str) -> str:
    return f"/api/projects/{stage.key}{rest}"


def drop(stage: Stage, key: str, status: int = 200) -> Any:
    answer = stage.client.post(api(stage, f"/examples/{key}/drop"))
    assert answer.status_code == status, answer.text
    return answer.json()


def put_back(stage: Stage, key: str, status: int = 202) -> Any:
    answer = stage.client.post(api(stage, f"/examples/{key}/restore"))
    assert answer.status_code == status, answer.text
    return answer.json()


@contextmanager
def images_away(stage: Stage) -> Iterator[None]:
    """While a block runs no task's image can be had, whatever is cached."""
    tasks = stage.label_studio.tasks.values()
    addresses = [task["data"]["image"] for task in tasks]
    for task in tasks:
        task["data"]["image"] = "/data/upload/nowhere.png"
    yield
    for task, address in zip(tasks, addresses, strict=True):
        task["data"]["image"] = address


def gone(stage: Stage) -> list[Any]:
    listed: list[Any] = stage.client.get(api(stage, "/examples/dropped")).json()
    return listed


def test_a_dropped_example_teaches_no_more_and_comes_back_as_it_was(stage: Stage) -> None:
    first, second = stage.approve(1), stage.approve(2)
    before = example_of(stage, first)
    version, approvals = stage.setup(), stage.client.get(api(stage, "")).json()["approvals"]
    told = drop(stage, before.info.key)
    assert (told["annotation"], told["task"], told["key"]) == (first, before.info.task, before.info.key)
    assert stage.pool == [second]
    moved = stage.setup()
    assert moved != version
    assert stage.work() == ["pre_annotate"]
    stage.backend.learner.reconcile(stage.key)
    assert stage.pool == [second], "nothing brings it back by itself"
    assert [one["key"] for one in gone(stage)] == [before.info.key]

    assert put_back(stage, before.info.key) == {**told, "returning": True}
    assert [one["returning"] for one in gone(stage)] == [True]
    assert "reconcile" in stage.work()
    assert sorted(stage.pool) == [first, second]
    after = example_of(stage, first)
    assert (after.info.key, after.image, after.mask) == (before.info.key, before.image, before.mask)
    assert stage.setup() != moved
    assert gone(stage) == []
    assert stage.client.get(api(stage, "")).json()["approvals"] == approvals


def test_what_is_not_there_is_neither_dropped_nor_put_back(stage: Stage) -> None:
    key = example_of(stage, stage.approve(1)).info.key
    version = stage.setup()
    assert "no such example" in drop(stage, "0" * 32, 404)["detail"]
    assert "No such example" in put_back(stage, key, 404)["detail"]
    assert stage.setup() == version
    drop(stage, key)
    assert "no such example" in drop(stage, key, 404)["detail"]
    put_back(stage, key)
    stage.work()
    assert "No such example" in put_back(stage, key, 404)["detail"]


def test_an_example_of_another_project_is_not_dropped(stage: Stage) -> None:
    key = example_of(stage, stage.approve(1)).info.key
    stage.backend.store.put_label_config("2.1700000000", "<View/>", "f")
    with pytest.raises(NotFound):
        dropped.drop(stage.backend.store, "2.1700000000", [key])
    assert len(stage.pool) == 1


def test_what_was_withdrawn_since_cannot_be_put_back(stage: Stage) -> None:
    annotation = stage.approve(1)
    key = example_of(stage, annotation).info.key
    drop(stage, key)
    stage.delete(annotation)
    stage.work()
    assert gone(stage) == []
    assert "withdrawn" in put_back(stage, key, 409)["detail"]


def test_without_label_studio_nothing_is_put_back_and_it_stays_noted(
    staging: Callable[..., Stage], run: Run
) -> None:
    key = example_of(staging(), staging().approve(1)).info.key
    stage = staging(connected=False)
    folder = str(stage.settings.data_dir)
    code, _, said = run("examples", "drop", str(stage.project), key[:8], "--data-dir", folder)
    assert code == 0, said
    assert [one["key"] for one in gone(stage)] == [key]
    assert "LABEL_STUDIO_URL" in put_back(stage, key, 409)["detail"]
    assert [one["key"] for one in gone(stage)] == [key]


def test_the_others_of_the_same_annotation_stay(stage: Stage) -> None:
    """Only the label's example is taken out, and comes back beside what stayed."""
    annotation = stage.approve(1)
    known = example_of(stage, annotation)
    (approval,) = stage.backend.store.approvals(stage.key)
    other = StoredExample(
        replace(known.info, key="f" * 32, target="tag/image/other"), known.image, known.mask
    )
    stage.backend.store.put_approval(replace(approval, digest="two"), [known, other])
    drop(stage, "f" * 32)
    put_back(stage, "f" * 32)
    assert [info.key for info in stage.backend.store.pool(stage.key)] == [known.info.key]


def approve_two_labels(stage: Stage) -> None:
    """Submit one annotation that teaches both."""
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    stage.setup()
    image, mask = blob(1)
    stage.submit(stage.upload(image), brush(mask), brush(~mask, "debris"))
    stage.work()


def test_putting_one_label_back_leaves_the_others_out(stage: Stage) -> None:
    approve_two_labels(stage)
    keys = {info.target: info.key for info in stage.backend.store.pool(stage.key)}
    assert len(keys) == 2
    for key in keys.values():
        drop(stage, key)
    put_back(stage, keys["tag/image/cell"])
    stage.work()
    assert [info.key for info in stage.backend.store.pool(stage.key)] == [keys["tag/image/cell"]]
    assert [one["key"] for one in gone(stage)] == [keys["tag/image/debris"]]
    put_back(stage, keys["tag/image/debris"])
    stage.work()
    assert {info.key for info in stage.backend.store.pool(stage.key)} == set(keys.values())


def test_it_stays_out_where_it_is_submitted_again_unchanged_and_another_label_comes(stage: Stage) -> None:
    annotation, mask = stage.approve(1), blob(1)[1]
    drop(stage, example_of(stage, annotation).info.key)
    stage.correct(annotation, brush(mask))
    stage.work()
    stage.label_studio.projects[stage.project]["label_config"] = TWO_LABELS
    stage.setup()
    stage.work()
    stage.backend.learner.reconcile(stage.key)
    assert stage.pool == []
    stage.correct(annotation, brush(~mask))
    stage.work()
    assert stage.pool == [annotation]


def test_nothing_is_put_back_while_the_worker_learns(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    key = example_of(stage, stage.approve(1)).info.key
    drop(stage, key)
    monkeypatch.setattr(reading_again, "_PATIENCE", 0.0)
    with leased(stage.backend.store, f"learn:{stage.key}", 30.0) as taken:
        assert taken
        assert "try again" in put_back(stage, key, 409)["detail"]
    put_back(stage, key)


# -- put back, but not there yet -----------------------------------------------------------------------------------
@pytest.fixture
def unreadable(stage: Stage) -> Stage:
    """An example that was put back while its image could not be read."""
    stage.approve(1)
    key = example_of(stage, stage.approve(2)).info.key
    drop(stage, key)
    with images_away(stage):
        put_back(stage, key)
        stage.work()
    return stage


def test_what_cannot_be_read_is_listed_until_it_is_back(unreadable: Stage) -> None:
    """It was in no list any more: neither in its pool, nor among those that can be put back."""
    assert unreadable.pool == [1]
    ((annotation, returning),) = [(one["annotation"], one["returning"]) for one in gone(unreadable)]
    assert (annotation, returning) == (2, True)
    unreadable.backend.learner.reconcile(unreadable.key)
    assert unreadable.pool == [1, 2]
    assert gone(unreadable) == []


def test_what_cannot_be_read_is_tried_at_once_when_it_is_put_back_again(unreadable: Stage) -> None:
    (one,) = gone(unreadable)
    assert put_back(unreadable, one["key"]) == one
    assert "reconcile" in unreadable.work()
    assert unreadable.pool == [1, 2]
    assert "No such example" in put_back(unreadable, one["key"], 404)["detail"]


def test_what_returns_no_more_because_its_label_was_taken_away_is_listed_no_more(unreadable: Stage) -> None:
    """Its annotation has been read, and that is all that it was waited for."""
    unreadable.correct(2)
    unreadable.work()
    assert gone(unreadable) == []
    assert unreadable.pool == [1]


def test_what_returns_and_leaves_a_full_pool_later_is_no_example_that_was_taken_out(
    unreadable: Stage,
) -> None:
    unreadable.backend.learner.reconcile(unreadable.key)
    unreadable.backend.store.drop_examples([example_of(unreadable, 2).info.key])
    assert gone(unreadable) == []


def test_what_returns_can_be_taken_out_and_put_back_again(unreadable: Stage) -> None:
    unreadable.backend.learner.reconcile(unreadable.key)
    key = example_of(unreadable, 2).info.key
    drop(unreadable, key)
    unreadable.backend.learner.reconcile(unreadable.key)
    assert [one["returning"] for one in gone(unreadable)] == [False]
    assert unreadable.pool == [1]
    put_back(unreadable, key)
    unreadable.work()
    assert unreadable.pool == [1, 2]


def test_another_label_of_an_annotation_that_is_to_be_read_stays_out(stage: Stage) -> None:
    approve_two_labels(stage)
    first, second = (info.key for info in stage.backend.store.pool(stage.key))
    drop(stage, first)
    drop(stage, second)
    with images_away(stage):
        put_back(stage, second)
        stage.work()
    assert [(one["key"], one["returning"]) for one in gone(stage)] == [(second, True), (first, False)]
    stage.backend.learner.reconcile(stage.key)
    assert [info.key for info in stage.backend.store.pool(stage.key)] == [second]
    assert [one["key"] for one in gone(stage)] == [first]


def test_a_comparison_in_the_middle_of_putting_back_brings_it_back_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left out what was still noted as out, and then nothing was to be read any more."""
    annotation = stage.approve(1)
    key = example_of(stage, annotation).info.key
    drop(stage, key)

    def compared_at_once(*given: Any) -> None:
        reading_again.read_again(*given)
        stage.backend.learner.reconcile(stage.key)

    monkeypatch.setattr(dropped, "read_again", compared_at_once)
    put_back(stage, key)
    stage.work()
    assert (stage.pool, gone(stage)) == ([annotation], [])
