"""Hard tasks first, by the scores of one version at a time: on a real Label Studio, while approvals move the revision."""

import json
import shlex
import subprocess
from collections.abc import Callable, Iterable
from shutil import which
from typing import Any, NoReturn

import pytest

from backend.demo.pictures import LABELS
from backend.label_studio.records import UNCERTAINTY
from tests.backend import documented
from tests.label_studio.conftest import MakeStage, StartBackend
from tests.label_studio.stage import RunningBackend, RunningLabelStudio, Stage, eventually

HARD_FIRST, EASY_FIRST = "tasks:predictions_score", "-tasks:predictions_score"


@pytest.fixture(scope="module")
def ordering(label_studio: RunningLabelStudio, start_backend: StartBackend) -> RunningBackend:
    """A backend with ORDER_BY_SCORE=on."""
    return start_backend(
        {
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.personal_token,
            "ORDER_BY_SCORE": "on",
            "RECONCILE_EVERY": "5",
            "DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
    )


def shown(stage: Stage) -> str:
    """The version whose predictions the project shows."""
    return str(stage.session.project(stage.id)["model_version"])


def scores(stage: Stage, tasks: Iterable[int], version: str) -> dict[int, float]:
    """Scores of a version's predictions, by task, lowest first."""
    found = {
        task: row["score"]
        for task in tasks
        for row in stage.session.predictions(task)
        if row["model_version"] == version
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def caught_up(stage: Stage, after: str) -> str:
    """Wait until the project shows the backend's own version, another one than `after`; returns it."""

    def newest() -> str:
        version = shown(stage)
        return version if version == stage.version() != after else ""

    return eventually(newest, "the newest version, shown")


def approve_and_catch_up(stage: Stage, task: int) -> str:
    """Approve a task, and wait until the project shows the version that this brings; returns it."""
    before = stage.version()
    stage.approve(task)
    return caught_up(stage, after=before)


def next_of_view(stage: Stage, ordering: str) -> dict[str, Any]:
    """What "Label Tasks As Displayed" gives in a view that is sorted so."""
    body = {
        "project": str(stage.id), "ordering": [ordering], "selectedItems": {"all": True, "excluded": []},
        "filters": {"conjunction": "and", "items": []},
    }  # fmt: skip
    return dict(stage.session.call("POST", f"/api/dm/actions/?id=next_task&project={stage.id}", json=body))


def test_the_stream_gives_hard_tasks_first_while_approvals_move_the_revision(
    make_stage: MakeStage, ordering: RunningBackend
) -> None:
    stage = make_stage(9, backend=ordering, sampling=UNCERTAINTY)
    first, *others = stage.pictures
    assert shown(stage) == "SegGPT", "the title, so that Label Studio asks"
    approve_and_catch_up(stage, first)

    still, seen = set(others), []
    while still:
        before = shown(stage)
        expected = scores(stage, still, before)
        task = stage.session.next_task(stage.id)
        (prediction,) = task["predictions"]
        if shown(stage) == before:  # else it moved while we looked: Label Studio has locked that task for us
            assert set(expected) == still, "every task ahead has its prediction and score"
            assert task["id"] == next(iter(expected)), (task["id"], expected)
            assert prediction["model_version"] == before
        seen.append(prediction["model_version"])
        version = stage.version()
        stage.session.submit(task["id"], stage.truth(task["id"]), parent_prediction=prediction["id"])
        still.remove(task["id"])
        if len(seen) in (1, 4):  # approvals number 2 and 5 move the revision: let what they bring be seen
            caught_up(stage, after=version)
    assert len(set(seen)) >= 3, seen


def test_the_commands_of_the_docs_set_the_sampling(
    make_stage: MakeStage, label_studio: RunningLabelStudio, missing: Callable[[str], NoReturn]
) -> None:
    if which("curl") is None:
        missing("no curl")
    stage = make_stage(0, connect=False)
    refresh, patch = [
        command for command, pages in documented.commands().items()
        if "order_of_work.md" in pages and command.startswith("curl ")
    ]  # fmt: skip

    def typed(command: str, **words: str) -> Any:
        for word, meant in words.items():
            command = command.replace(word, meant)
        command = command.replace("http://localhost:8080", label_studio.url)
        done = subprocess.run(  # noqa: S603 - what the docs tell people to type
            [*shlex.split(command), "--silent"], capture_output=True, check=True, timeout=60
        )
        return json.loads(done.stdout)

    access = typed(refresh, PERSONAL_TOKEN=label_studio.personal_token)["access"]
    typed(patch, ACCESS=access, **{"projects/1/": f"projects/{stage.id}/"})

    assert stage.session.project(stage.id)["sampling"] == UNCERTAINTY


def test_views_give_hard_or_easy_tasks_first(make_stage: MakeStage, ordering: RunningBackend) -> None:
    stage = make_stage(6, backend=ordering)
    first, *others = stage.pictures
    by_score = [*scores(stage, others, approve_and_catch_up(stage, first))]

    assert len(by_score) == len(others)
    assert next_of_view(stage, HARD_FIRST)["id"] == by_score[0]
    assert next_of_view(stage, EASY_FIRST)["id"] == by_score[-1]


def test_what_scores_high_enough_is_accepted_in_bulk_and_the_rest_stays(
    make_stage: MakeStage, ordering: RunningBackend
) -> None:
    """As docs/order_of_work.md says: a view with a filter by score, and what is there all at once."""
    stage = make_stage(6, backend=ordering)
    first, *others = stage.pictures
    before = stage.version()
    annotation = stage.approve(first)
    version = caught_up(stage, after=before)
    by_score = scores(stage, others, version)
    threshold = [*by_score.values()][2]

    score = {"filter": "filter:tasks:predictions_score", "operator": "greater_or_equal", "type": "Number"}
    unlabeled = {"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number"}
    items = [{**score, "value": threshold}, {**unlabeled, "value": 0}]
    body = {
        "project": str(stage.id), "ordering": [], "selectedItems": {"all": True, "excluded": []},
        "filters": {"conjunction": "and", "items": items}, "model_version": version,
    }  # fmt: skip
    path = f"/api/dm/actions/?id=predictions_to_annotations&project={stage.id}"
    stage.session.call("POST", path, json=body)

    accepted = {task for task in others if stage.session.annotations(task)}
    assert accepted == {task for task, score in by_score.items() if score >= threshold}
    stage.wait_taught(*((annotation, label) for label in LABELS))


def test_what_is_open_when_the_revision_moves_can_be_submitted(stage: Stage) -> None:
    """Its prediction was deleted under the annotator, whose submission was refused: HTTP 400."""
    first, second, third, _ = stage.pictures
    stage.approve(first)
    opened = stage.wait_predicted(third)[third]
    old = stage.version()
    stage.approve(second)
    stage.wait_version_after(old)
    newer = stage.wait_predicted(third)[third]

    annotation = stage.session.submit(third, opened["result"], parent_prediction=opened["id"])

    assert newer["id"] == opened["id"]
    assert [row["id"] for row in stage.session.annotations(third)] == [annotation]


def test_what_the_project_shows_is_still_there_when_it_is_submitted(
    make_stage: MakeStage, ordering: RunningBackend
) -> None:
    stage = make_stage(5, backend=ordering, sampling=UNCERTAINTY)
    first, *_ = stage.pictures
    old = approve_and_catch_up(stage, first)
    opened = stage.session.next_task(stage.id)
    (prediction,) = opened["predictions"]
    other = next(task for task in stage.pictures if task not in (first, opened["id"]))
    stage.approve(other)
    eventually(lambda: shown(stage) != old, "another version, shown")

    stage.session.submit(opened["id"], prediction["result"], parent_prediction=prediction["id"])

    kept = eventually(
        lambda: [
            row
            for row in stage.backend.get(f"/api/projects/{stage.key}/figures")["kept"]
            if row["task"] == opened["id"]
        ],
        "its kept IoU",
    )
    assert {(row["revision"], row["iou"]) for row in kept} == {(old, 1.0)}, "of what was seen"
