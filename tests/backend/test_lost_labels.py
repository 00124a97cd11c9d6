"""Labels that the labeling config lost while they had examples: nothing is lost, nothing is predicted under their name."""

from collections.abc import Callable

import pytest

from backend import dropped, lost_labels
from backend.errors import NotFound, Refused
from backend.label_config import parse
from backend.lost_labels import LostLabel
from backend.store import ExampleInfo
from backend.store.pictures import unpack_mask
from tests.backend.stage import Stage, blob, brush, half, mask_taught, reconcile

CELL, ROUND, LONG = "tag/image/cell", "tag/image/round", "tag/image/long"


def labels(stage: Stage, *names: str, image: str = "$image", tell: bool = True) -> None:
    """The labeling config has these labels now, and Label Studio says so."""
    config = (
        f'<View><Image name="image" value="{image}"/><BrushLabels name="tag" toName="image">'
        + "".join(f'<Label value="{name}"/>' for name in names)
        + "</BrushLabels></View>"
    )
    stage.label_studio.projects[stage.project]["label_config"] = config
    if tell:
        stage.setup()
        stage.work()


def pools(stage: Stage) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for info in stage.backend.store.pool(stage.key):
        found.setdefault(info.target, []).append(info.annotation)
    return found


def lost(stage: Stage) -> list[LostLabel]:
    record = stage.backend.store.project(stage.key)
    assert record is not None
    return list(lost_labels.of(stage.backend.store, stage.key, parse(record.label_config)))


def predicted_labels(stage: Stage, *tasks: int) -> set[str]:
    return {
        label
        for result in stage.predict(*tasks)
        for region in (result["result"] if result else [])
        for label in region["value"]["brushlabels"]
    }


def test_who_asks_where_no_label_was_lost_reads_no_pool(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page of a project asks; reading 200 examples made up most of its time in the store."""
    stage.approve(1)
    pools_read: list[str] = []
    read = stage.backend.store.pool

    def counted(project: str, target: str | None = None) -> list[ExampleInfo]:
        pools_read.append(project)
        return read(project, target)

    monkeypatch.setattr(stage.backend.store, "pool", counted)
    address = f"/api/projects/{stage.key}/lost-labels"
    assert stage.client.get(address).json() == []
    assert pools_read == []
    labels(stage, "round", tell=True)
    pools_read.clear()
    assert [one["target"] for one in stage.client.get(address).json()] == [CELL]
    assert len(pools_read) == 1


@pytest.fixture
def renamed(stage: Stage) -> Stage:
    """Three cells were approved; then the label is called otherwise, and there is another one."""
    stage.segment_by_colour()
    for seed in (1, 2, 3):
        stage.approve(seed)
    labels(stage, "round", "long")
    return stage


def test_a_label_that_the_config_lost_keeps_its_examples_until_somebody_answers(renamed: Stage) -> None:
    assert pools(renamed) == {CELL: [1, 2, 3]}
    (one,) = lost(renamed)
    assert (one.target.id, one.target.label, one.answer) == (CELL, "cell", "unanswered")
    before = [info.key for info in renamed.backend.store.pool(renamed.key)]
    assert not reconcile(renamed).moved, "a comparison changes nothing"
    assert [info.key for info in renamed.backend.store.pool(renamed.key)] == before


def test_until_answered_nothing_is_predicted_under_a_name_that_does_not_exist(renamed: Stage) -> None:
    (task,) = renamed.blobs(1, first=40)
    assert predicted_labels(renamed, task) == set()
    renamed.work()
    assert renamed.label_studio.stored_predictions == {}
    lost_labels.keep_aside(renamed.backend.store, renamed.key, CELL)
    reconcile(renamed)
    assert predicted_labels(renamed, task) == set()
    lost_labels.move(renamed.backend.store, renamed.key, CELL, ROUND)
    reconcile(renamed)
    assert predicted_labels(renamed, task) == {"round"}


def test_a_renamed_label_s_examples_move_and_come_back(renamed: Stage) -> None:
    store = renamed.backend.store
    masks = {annotation: mask_taught(renamed, annotation) for annotation in (1, 2, 3)}
    keys = [info.key for info in store.pool(renamed.key)]
    store.pin_examples([keys[1]], True)
    version = renamed.setup()
    lost_labels.move(store, renamed.key, CELL, ROUND)
    assert reconcile(renamed).moved
    assert pools(renamed) == {ROUND: [1, 2, 3]}
    assert [info.annotation for info in store.pool(renamed.key) if info.pinned] == [2]
    assert all((mask_taught(renamed, annotation) == mask).all() for annotation, mask in masks.items())
    assert renamed.setup() != version
    assert not reconcile(renamed).moved, "annotations still say the old label, and the answer stands"

    lost_labels.take_back(store, renamed.key, CELL)
    reconcile(renamed)
    assert [info.key for info in store.pool(renamed.key)] == keys
    assert [info.annotation for info in store.pool(renamed.key) if info.pinned] == [2]
    assert lost(renamed)[0].answer == "unanswered"


def test_the_answer_also_counts_for_what_is_approved_later_under_the_old_label(renamed: Stage) -> None:
    lost_labels.move(renamed.backend.store, renamed.key, CELL, ROUND)
    reconcile(renamed)
    image, mask = blob(7)
    late = renamed.submit(renamed.upload(image), brush(mask, "cell"))
    renamed.work()
    assert pools(renamed) == {ROUND: [1, 2, 3, late]}


def test_merged_into_a_label_that_the_same_annotation_has_the_masks_become_one(stage: Stage) -> None:
    labels(stage, "cell", "round")
    image, mask = blob(1)
    upper, lower = half(mask), mask & ~half(mask)
    both = stage.submit(stage.upload(image), brush(upper, "cell"), brush(lower, "round"))
    stage.work()
    own = stage.approve(2)
    assert pools(stage) == {CELL: [both, own], ROUND: [both]}
    labels(stage, "round")
    assert pools(stage) == {CELL: [both, own], ROUND: [both]}
    lost_labels.move(stage.backend.store, stage.key, CELL, ROUND)
    reconcile(stage)
    assert pools(stage) == {ROUND: [both, own]}
    assert (mask_taught(stage, both) == mask).all()
    lost_labels.take_back(stage.backend.store, stage.key, CELL)
    reconcile(stage)
    assert pools(stage) == {CELL: [both, own], ROUND: [both]}
    stored = stage.backend.store.examples([info.key for info in stage.backend.store.pool(stage.key, ROUND)])
    assert (unpack_mask(next(iter(stored.values())).mask) == lower).all()


def test_a_split_label_s_examples_go_where_each_was_chosen_to_go(renamed: Stage) -> None:
    store = renamed.backend.store
    lost_labels.split(store, renamed.key, CELL, {1: ROUND})
    reconcile(renamed)
    assert pools(renamed) == {ROUND: [1], CELL: [2, 3]}
    lost_labels.split(store, renamed.key, CELL, {2: LONG})
    reconcile(renamed)
    assert pools(renamed) == {ROUND: [1], LONG: [2], CELL: [3]}
    lost_labels.split(store, renamed.key, CELL, {1: LONG, 2: ""})
    assert pools(renamed) == {CELL: [3]}, "what is chosen otherwise teaches the old label no more"
    reconcile(renamed)
    assert pools(renamed) == {LONG: [1], CELL: [2, 3]}
    lost_labels.take_back(store, renamed.key, CELL)
    reconcile(renamed)
    assert pools(renamed) == {CELL: [1, 2, 3]}


def test_what_left_a_full_pool_for_moved_examples_is_back_when_they_go_back(
    staging: Callable[..., Stage],
) -> None:
    stage = staging(pool_size=3)
    labels(stage, "cell", "round")
    for seed in (1, 2, 3):
        image, mask = blob(seed)
        stage.submit(stage.upload(image), brush(mask, "round"))
        stage.work()
    cells = [stage.approve(seed) for seed in (4, 5)]
    labels(stage, "round")
    assert pools(stage) == {CELL: cells, ROUND: [1, 2, 3]}
    lost_labels.move(stage.backend.store, stage.key, CELL, ROUND)
    reconcile(stage)
    assert len(pools(stage)[ROUND]) == 3
    assert set(pools(stage)[ROUND]) > set(cells), "the newer ones stay"
    lost_labels.take_back(stage.backend.store, stage.key, CELL)
    reconcile(stage)
    assert pools(stage) == {CELL: cells, ROUND: [1, 2, 3]}


def test_a_label_that_comes_back_has_its_pool_again_whatever_was_answered(renamed: Stage) -> None:
    keys = [info.key for info in renamed.backend.store.pool(renamed.key)]
    lost_labels.move(renamed.backend.store, renamed.key, CELL, ROUND)
    reconcile(renamed)
    labels(renamed, "cell", "round")
    assert [info.key for info in renamed.backend.store.pool(renamed.key)] == keys
    assert lost(renamed) == []
    labels(renamed, "round")
    assert [one.answer for one in lost(renamed)] == ["unanswered"], "lost anew, asked anew"
    assert pools(renamed) == {CELL: [1, 2, 3]}


def test_an_event_from_before_the_change_does_not_undo_it_nor_its_answer(renamed: Stage) -> None:
    """It carries the labeling config of its time, and is applied late where Label Studio was away."""
    store = renamed.backend.store
    lost_labels.move(store, renamed.key, CELL, ROUND)
    reconcile(renamed)
    (record,) = store.projects()
    project = {
        **renamed.label_studio.projects[renamed.project],
        "label_config": record.label_config.replace("round", "cell"),
    }
    store.add_event(renamed.key, "TASKS_CREATED", {"project": project, "tasks": []}, 1000.0)
    renamed.jobs.learn(renamed.key)
    renamed.work()
    assert store.projects()[0].label_config == record.label_config
    assert [one.answer for one in lost(renamed)] == ["move"]
    assert pools(renamed) == {ROUND: [1, 2, 3]}


def test_where_the_new_label_is_lost_too_its_answer_is_asked_for(renamed: Stage) -> None:
    store = renamed.backend.store
    lost_labels.move(store, renamed.key, CELL, ROUND)
    reconcile(renamed)
    labels(renamed, "long")
    assert sorted(one.target.label for one in lost(renamed)) == ["cell", "round"]
    assert [len(there) for there in pools(renamed).values()] == [3]
    lost_labels.move(store, renamed.key, ROUND, LONG)
    reconcile(renamed)
    assert pools(renamed) == {LONG: [1, 2, 3]}


def test_what_annotators_changed_counts_more_than_the_answer(renamed: Stage) -> None:
    lost_labels.move(renamed.backend.store, renamed.key, CELL, ROUND)
    reconcile(renamed)
    renamed.correct(1, brush(blob(1)[1], "long"))
    renamed.delete(2)
    renamed.work()
    assert pools(renamed) == {ROUND: [3], LONG: [1]}
    lost_labels.take_back(renamed.backend.store, renamed.key, CELL)
    reconcile(renamed)
    assert pools(renamed) == {CELL: [3], LONG: [1]}


def test_what_was_taken_out_of_use_stays_out_whatever_its_label_becomes(renamed: Stage) -> None:
    store = renamed.backend.store
    dropped.drop(store, renamed.key, [store.pool(renamed.key)[0].key])
    lost_labels.move(store, renamed.key, CELL, ROUND)
    reconcile(renamed)
    assert pools(renamed) == {ROUND: [2, 3]}
    dropped.drop(store, renamed.key, [store.pool(renamed.key)[0].key])
    lost_labels.take_back(store, renamed.key, CELL)
    reconcile(renamed)
    assert set(pools(renamed)[CELL]) >= {3}
    assert 1 not in pools(renamed)[CELL]


def test_kept_ious_of_the_time_before_stay_what_they_were(stage: Stage) -> None:
    """They were 0 where the config lost the label: the annotation was compared as if it said nothing."""
    stage.segment_by_colour()
    stage.approve(1)
    image, mask = blob(5)
    task = stage.upload(image)
    stage.predict(task)
    stage.submit(task, brush(mask))
    stage.work()
    (before,) = stage.backend.store.kept(stage.key)
    assert before.iou > 0.9
    labels(stage, "round")
    lost_labels.move(stage.backend.store, stage.key, CELL, ROUND)
    reconcile(stage)
    assert [(row.target, row.iou) for row in stage.backend.store.kept(stage.key)] == [(CELL, before.iou)]


def test_a_label_without_a_pool_is_not_asked_about(stage: Stage) -> None:
    stage.setup()
    labels(stage, "round")
    assert lost(stage) == []


def test_an_empty_pool_and_pictures_that_are_gone_do_no_harm(renamed: Stage) -> None:
    """The tasks' data have no such picture any more; the examples that are there are kept as they are."""
    keys = [info.key for info in renamed.backend.store.pool(renamed.key)]
    for task in renamed.label_studio.tasks.values():
        task["data"] = {"other": task["data"]["image"]}
    labels(renamed, "round", image="$other")
    assert [info.key for info in renamed.backend.store.pool(renamed.key)] == keys
    with pytest.raises(Refused, match="on other pictures"):
        lost_labels.move(renamed.backend.store, renamed.key, CELL, ROUND)


def test_what_cannot_be_answered_is_refused(renamed: Stage) -> None:
    store, key = renamed.backend.store, renamed.key
    for wrong in (ROUND, "tag/image/none"):
        with pytest.raises(NotFound, match="lost no such label"):
            lost_labels.keep_aside(store, key, wrong)
    with pytest.raises(Refused, match="has no tag/image/none"):
        lost_labels.split(store, key, CELL, {1: "tag/image/none"})
    with pytest.raises(Refused, match="No label is named"):
        lost_labels.move(store, key, CELL, "")
    with pytest.raises(Refused, match="Nothing was answered"):
        lost_labels.take_back(store, key, CELL)
    assert lost(renamed)[0].answer == "unanswered"


def test_a_config_that_cannot_be_read_any_more_loses_nothing(stage: Stage) -> None:
    stage.approve(1)
    stage.backend.store.put_label_config(stage.key, "<View", "broken")
    labels(stage, "round")
    assert lost(stage) == []
    assert pools(stage) == {}, "what it said cannot be known"
