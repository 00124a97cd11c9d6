"""A person's, a day's or a label's influence: previewed, taken out as one act, put back as one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backend import revision
from backend.sequences import Place
from tests.backend.stage import Stage, blob, brush, by_colour

GOOD, BAD = 7, 8
DAY_ONE, DAY_TWO = "2026-03-01T08:00:00Z", "2026-03-02T23:59:00+01:00"


def api(stage: Stage, rest: str = "", method: str = "GET", status: int = 200, **wish: Any) -> Any:
    address = f"/api/projects/{stage.key}/influence{rest}"
    answer = stage.client.request(method, address, json=wish or None)
    assert answer.status_code == status, answer.text
    return answer.json()


def approve(stage: Stage, seed: int, who: int, at: str, good: bool = True) -> int:
    image, mask = blob(seed)
    annotation = stage.submit(
        stage.upload(image), brush(mask if good else ~mask), completed_by=who, updated_by=who, updated_at=at
    )
    stage.work()
    return annotation


def preview(stage: Stage, by: str, what: str) -> Any:
    api(stage, "/preview", "POST", 202, by=by, what=what)
    stage.tune()
    return api(stage)["preview"]


@pytest.fixture
def two(stage: Stage) -> Stage:
    """Six masks by two people on two days; all of the second person's are wrong."""
    stage.segment_by_colour()
    for seed in range(4):
        approve(stage, seed, GOOD, DAY_ONE)
    for seed in (4, 5):
        approve(stage, seed, BAD, DAY_TWO, good=False)
    stage.jobs.tuning.flush()
    return stage


def test_examples_are_counted_by_person_day_and_label(two: Stage) -> None:
    sources = [(one["by"], one["what"], one["examples"]) for one in api(two)["sources"]]
    assert sources == [
        ("person", "7", 4), ("person", "8", 2), ("day", "2026-03-02", 2), ("day", "2026-03-01", 4), ("label", two.target, 6),
    ]  # fmt: skip


def test_a_preview_says_how_the_others_would_be_found_without_them(two: Stage) -> None:
    before = two.setup()
    asked = api(two, "/preview", "POST", 202, by="person", what=str(BAD))
    assert len(asked["examples"]) == 2
    (pool,) = asked["pools"]
    assert (pool["going"], pool["staying"], pool["before"], asked["weighed"]) == (2, 4, None, None)
    assert two.tune() == ["measure"]
    found = api(two)["preview"]
    assert (found["preview"], found["weighed"] is not None) == (asked["preview"], True)
    (pool,) = found["pools"]
    assert pool["pictures"] == 4
    assert pool["after"] > 0.95 > 0.5 > pool["before"], "the wrong masks' colours spoil the mean"
    assert (len(two.pool), two.setup()) == (6, before), "nothing was changed"


def test_each_is_found_as_a_task_would_be(two: Stage) -> None:
    """By the others of its pool, at most as many as a context has; never by itself."""
    seen: list[tuple[int, bool]] = []

    def watched(queries: Any) -> Any:
        for query in queries:
            itself = any(np.array_equal(example.image, query.image) for example in query.context.examples)
            seen.append((len(query.context.examples), itself))
        return by_colour(queries)

    two.segment_with(watched)
    api(two, "/preview", "POST", 202, by="person", what=str(BAD))
    two.backend.influence.weigh(two.key, lambda _done, _total: None)
    assert seen == [(5, False)] * 4 + [(3, False)] * 4


def test_each_is_found_by_the_examples_that_a_task_in_its_place_would_be(
    staging: Callable[..., Stage],
) -> None:
    """Near frames of the own sequence were not preferred, as they are when a task is predicted."""
    stage = staging(sequence_key="clip", shots=4)
    stage.segment_by_colour()
    for seed, clip in enumerate("aabbbcab"):
        image, mask = blob(seed)
        stage.submit(stage.upload(image, clip=clip, frame=seed), brush(mask), completed_by=GOOD + (seed > 6))
        stage.work()
    stage.jobs.tuning.flush()
    seen: list[tuple[str, ...]] = []

    def watched(queries: Any) -> Any:
        seen.extend(query.context.keys for query in queries)
        return by_colour(queries)

    stage.segment_with(watched)
    api(stage, "/preview", "POST", 202, by="person", what=str(BAD))
    stage.backend.influence.weigh(stage.key, lambda _done, _total: None)
    snapshot = revision.take(stage.backend.store, stage.key, stage.backend.checkpoint)
    (target,) = (one for one in snapshot.ready if one.id == stage.target)
    choose = stage.backend.predictor.contexts.choose
    staying = snapshot.pool[target.id][:7]
    expected = [
        choose(snapshot, target, info.task, blob(seed)[0], Place(info.sequence, info.frame)).keys
        for seed, info in enumerate(staying)
    ]
    assert seen[:7] == expected
    assert {len(keys) for keys in expected} == {2, 4}, "half as many where frames are near"


def test_they_are_taken_out_as_one_and_put_back_as_one(two: Stage) -> None:
    keys = [info.key for info in two.backend.store.pool(two.key)]
    two.backend.store.pin_examples([keys[-1]], True)
    name = preview(two, "person", str(BAD))["preview"]
    generation = two.backend.store.project(two.key).generation  # type: ignore[union-attr]
    act = api(two, "/acts", "POST", preview=name)
    assert (act["because"], len(act["examples"])) == ("person 8", 2)
    assert [info.key for info in two.backend.store.pool(two.key)] == keys[:4]
    assert two.backend.store.project(two.key).generation == generation + 1  # type: ignore[union-attr]
    assert "pre_annotate" in two.work()
    shown = api(two)
    assert (shown["preview"], [one["act"] for one in shown["acts"]]) == (None, [act["act"]])
    two.backend.learner.reconcile(two.key)
    assert len(two.pool) == 4, "a comparison brings nothing back"

    back = api(two, f"/acts/{act['act']}/restore", "POST", 202)
    assert back == {**act, "examples": back["examples"]}
    two.work()
    assert [info.key for info in two.backend.store.pool(two.key)] == keys
    assert [info.key for info in two.backend.store.pool(two.key) if info.pinned] == [keys[-1]]
    assert api(two)["acts"] == []
    assert "such an act" in api(two, f"/acts/{act['act']}/restore", "POST", 404)["detail"]


def test_what_is_out_stays_out_when_the_labeling_config_changes_until_its_annotation_does(two: Stage) -> None:
    act = api(two, "/acts", "POST", preview=preview(two, "day", "2026-03-02")["preview"])
    two.work()
    projects = two.label_studio.projects
    config = projects[two.project]["label_config"]
    projects[two.project]["label_config"] = config.replace("</Brush", '<Label value="new"/></Brush')
    two.setup()
    two.work()
    assert sorted(two.pool) == [1, 2, 3, 4]
    (gone,) = api(two)["acts"]
    two.correct(gone["examples"][0]["annotation"], brush(blob(4)[1]))
    two.work()
    assert len(two.pool) == 5
    (left,) = api(two)["acts"]
    assert (left["act"], len(left["examples"])) == (act["act"], 1)
    api(two, f"/acts/{act['act']}/restore", "POST", 202)
    two.work()
    assert len(two.pool) == 6


def test_without_a_label_nothing_is_left_to_say_and_it_can_go_all_the_same(two: Stage) -> None:
    found = preview(two, "label", two.target)
    (pool,) = found["pools"]
    assert (pool["going"], pool["staying"], pool["pictures"], pool["after"]) == (6, 0, 0, None)
    assert found["weighed"] is not None
    api(two, "/acts", "POST", preview=found["preview"])
    assert two.pool == []


def test_before_its_figures_are_there_nothing_is_taken_out_unless_they_are_not_wanted(two: Stage) -> None:
    asked = api(two, "/preview", "POST", 202, by="person", what=str(BAD))["preview"]
    assert "not worked out yet" in api(two, "/acts", "POST", 409, preview=asked)["detail"]
    assert len(two.pool) == 6
    api(two, "/acts", "POST", preview=asked, unweighed=True)
    assert len(two.pool) == 4


def test_only_what_was_previewed_goes(two: Stage) -> None:
    found = preview(two, "person", str(BAD))
    late = approve(two, 9, BAD, DAY_TWO, good=False)
    api(two, "/acts", "POST", preview=found["preview"])
    assert two.pool[-1] == late
    assert len(two.pool) == 5
    assert "not there any more" in api(two, "/acts", "POST", 404, preview=found["preview"])["detail"]


def test_a_preview_is_put_away_and_its_figures_are_dropped(two: Stage) -> None:
    asked = api(two, "/preview", "POST", 202, by="person", what=str(BAD))

    def put_away(_done: int, _total: int) -> None:
        assert api(two, "/put-away", "POST")["preview"] is None

    two.backend.influence.weigh(two.key, put_away)
    assert api(two)["preview"] is None
    assert "not there any more" in api(two, "/acts", "POST", 404, preview=asked["preview"])["detail"]


def test_what_is_not_there_is_refused(two: Stage) -> None:
    for by, what in (
        ("person", "99"),
        ("person", "unknown"),
        ("day", "2020-01-01"),
        ("label", "tag/image/none"),
    ):
        assert what in api(two, "/preview", "POST", 404, by=by, what=what)["detail"]
    api(two, "/preview", "POST", 422, by="hour", what="7")
    api(two, "/preview", "POST", 422, by="person", what="7", other=1)
    assert api(two)["preview"] is None
    assert "such an act" in api(two, "/acts/none/restore", "POST", 404)["detail"]


def test_nobody_knows_by_whom_and_when(stage: Stage) -> None:
    image, mask = blob(1)
    stage.submit(stage.upload(image), brush(mask), completed_by=None, updated_at="some time")
    stage.work()
    assert [(one["by"], one["what"]) for one in api(stage)["sources"]] == [
        ("person", "unknown"),
        ("label", stage.target),
    ]
    assert len(preview(stage, "person", "unknown")["examples"]) == 1


def test_without_label_studio_an_act_cannot_be_put_back(staging: Callable[..., Stage]) -> None:
    stage = staging()
    stage.approve(1)
    stage.approve(2)
    found = preview(stage, "label", stage.target)
    act = api(stage, "/acts", "POST", preview=found["preview"])["act"]
    away = staging(connected=False)
    assert "LABEL_STUDIO_URL" in api(away, f"/acts/{act}/restore", "POST", 409)["detail"]
    assert [one["act"] for one in api(away)["acts"]] == [act]
