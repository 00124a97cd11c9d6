"""What people reported elsewhere about images, tokens, time-outs and events, as whole requests: G1 to G6.

Each goes in by `/webhook` and comes out by `/predict`; the rooms' own tests have the finer points.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.backend.loopback import FakeBucket
from tests.backend.stage import Stage, blob, brush, by_colour, data_uri, encoded, iou, mask_of, png, taught

RECORDED = sorted((Path(__file__).parents[1] / "fixtures" / "label_studio").glob("*.json"))
EVENTS = [
    request["body"]
    for file in RECORDED
    for request in json.loads(file.read_text(encoding="utf-8")).get("requests", [])
    if request["path"] == "/webhook"
]


@pytest.fixture
def colourful(stage: Stage) -> Stage:
    stage.segment_by_colour()
    return stage


# -- G1 ------------------------------------------------------------------------------------------------------------
def photo(shown: NDArray[np.uint8], orientation: int) -> bytes:
    """A JPEG file that is shown so, and stored turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.rot90(shown, {6: 1, 3: 2}[orientation])
    return encoded(
        Image.fromarray(np.ascontiguousarray(stored)), "JPEG", quality=95, subsampling=0, exif=exif
    )


@pytest.mark.parametrize("orientation", [6, 3])
def test_g1_camera_photos_teach_and_are_predicted_as_they_are_shown(
    colourful: Stage, orientation: int
) -> None:
    (first, first_mask), (second, second_mask) = blob(1, 60, 40), blob(2, 60, 40)
    fake = colourful.label_studio
    approved = fake.add_task(colourful.project, photo(first, orientation))
    colourful.submit(approved, brush(first_mask))
    colourful.work()
    assert (taught(colourful)[0] == first_mask).all()
    again = fake.add_task(colourful.project, photo(first, orientation))
    other = fake.add_task(colourful.project, photo(second, orientation))
    for prediction, mask in zip(colourful.predict(again, other), (first_mask, second_mask), strict=True):
        (region,) = prediction["result"]
        assert (region["original_width"], region["original_height"], region["image_rotation"]) == (40, 60, 0)
        assert iou(mask_of(region), mask) > 0.9


# -- G2 ------------------------------------------------------------------------------------------------------------
def test_g2_bucket_addresses_are_opened_through_label_studio_without_its_token(
    staging: Callable[..., Stage], bucket: FakeBucket, caplog: pytest.LogCaptureFixture
) -> None:
    stage = staging(allowed_hosts=bucket.url.removeprefix("http://"))
    stage.segment_by_colour()
    stage.approve(1)
    image, mask = blob(2)
    address = "s3://bucket/a b/1.png"
    stage.label_studio.signed[address] = bucket.put("/a%20b/1.png", png(image)) + "?X-Amz-Signature=secret"
    presigned = bucket.put("/2%2B.png", png(image)) + "?X-Amz-Signature=a%2Fb%20c+d&X-Amz-Date=1"
    tasks = [stage.label_studio.add_task(stage.project, image=url) for url in (address, presigned)]
    for prediction in stage.predict(*tasks):
        assert (mask_of(prediction["result"][0]) == mask).all()
    targets = {request.target for request in bucket.requests}
    assert targets == {
        "/a%20b/1.png?X-Amz-Signature=secret",
        "/2%2B.png?X-Amz-Signature=a%2Fb%20c+d&X-Amz-Date=1",
    }
    assert "Signature" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("backend")
    )


# -- G3 ------------------------------------------------------------------------------------------------------------
def test_g3_a_personal_token_is_exchanged_and_renewed_while_images_are_read(
    staging: Callable[..., Stage],
) -> None:
    stage = staging()
    fake = stage.label_studio
    fake.legacy_allowed, fake.access_seconds = False, 2
    seconds = iter(range(10**6))
    fake.clock = lambda: (
        time.time() + next(seconds) / 4
    )  # each answer is a quarter of a second later than the last
    own = staging(label_studio_api_key=fake.personal_token)
    own.segment_by_colour()
    own.approve(1)
    results = own.predict(*own.blobs(20, first=2))
    assert all(prediction["result"] for prediction in results)
    assert 2 <= fake.exchanges <= 15


def test_g3_with_no_token_that_is_accepted_the_reason_is_told_once_and_readable(
    staging: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = staging(label_studio_api_key="")
    stage.label_studio.legacy_allowed = False
    stage.setup()  # hands over a token that this Label Studio refuses
    image, mask = blob(1)
    stage.submit(stage.label_studio.add_task(stage.project, image=data_uri(png(image))), brush(mask))
    stage.work()
    tasks = stage.blobs(3, first=2)
    caplog.clear()
    assert stage.predict(*tasks) == [[], [], []]
    rows = {row["task"]: row for row in stage.client.get(f"/api/projects/{stage.key}/tasks").json()}
    assert {rows[task]["status"] for task in tasks} == {"failed"}
    assert "legacy token" in rows[tasks[0]]["reason"]
    assert sum("legacy token" in record.getMessage() for record in caplog.records) <= len(tasks)
    assert stage.label_studio.legacy_token not in caplog.text


# -- G4 ------------------------------------------------------------------------------------------------------------
class Clock:
    """Moves only when something is computed."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


def test_g4_many_tasks_are_answered_in_time_and_the_rest_follows_under_the_same_version(
    staging: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, clock = staging(predict_deadline=40), Clock()
    for room in ("app", "predictor.predictor", "predictor.pace", "pre_annotation"):
        monkeypatch.setattr(f"backend.{room}.time", clock)

    def segment(queries: Any) -> Any:
        clock.now += 5 * len(queries)
        return by_colour(queries)

    stage.segment_with(segment)
    stage.approve(1)
    version, tasks, began = stage.setup(), stage.blobs(30, first=2), clock.now
    response = stage.ask(*tasks)
    assert clock.now - began <= 40
    results = response.json()["results"]
    reached = [task for task, result in zip(tasks, results, strict=True) if result]
    assert reached == tasks[:8]
    assert results[8:] == [[]] * 22

    def states() -> dict[int, tuple[str, str]]:
        rows = stage.client.get(f"/api/projects/{stage.key}/tasks").json()
        return {row["task"]: (row["status"], row["reason"]) for row in rows if row["task"] in tasks}

    assert {states()[task] for task in reached} == {("done", "answered")}
    assert {states()[task] for task in tasks[8:]} == {("queued", "not reached before the deadline")}
    stage.work()
    rows = stage.label_studio.stored_predictions.values()
    assert sorted(row["task"] for row in rows) == tasks[8:]
    assert (
        {row["model_version"] for row in rows}
        == {result["model_version"] for result in results[:8]}
        == {version}
    )
    assert {states()[task] for task in tasks[8:]} == {("done", "pushed")}
    computed = clock.now
    assert stage.predict(*tasks[:8]) == results[:8]  # for a client that had gone: not computed again
    assert clock.now == computed


# -- G5 ------------------------------------------------------------------------------------------------------------
def test_g5_every_event_is_acknowledged_and_the_examples_agree_with_the_export_afterwards(
    stage: Stage,
) -> None:
    fake = stage.label_studio
    fake.projects[stage.project]["created_at"] = "2026-11-23T12:00:56.093637Z"  # as in the recorded events
    first = stage.approve(1)
    odd: list[Any] = [
        {"action": "SOMETHING_NEW", "project": {"id": 1}}, {}, [], None, 7, {"action": None}, {"action": 5},
        {"action": "ANNOTATION_CREATED"}, {"action": "ANNOTATION_CREATED", "project": {"id": 999}},
        {"action": "ANNOTATION_CREATED", "project": {"id": True, "created_at": "2026-01-01T00:00:00Z"}},
        *({"action": action, "project": fake.projects[stage.project], "annotation": annotation, "task": task}
          for action in ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "TASKS_DELETED")
          for annotation in (None, 5, "x", {}, {"id": 77, "result": [{"value": "x"}, 3]}, {"id": 78, "result": 5},
                             [{"id": 79, "task": 1, "result": [{"type": "brushlabels", "from_name": "tag",
                               "to_name": "image", "value": {"brushlabels": ["cell"], "rle": "x"}}]}])
          for task in (None, {}, 4, {"id": 1}, [{"id": 1, "data": 5}])),
    ]  # fmt: skip
    for body in [*EVENTS, *odd]:
        response = stage.client.post("/webhook", json=body)
        assert response.status_code == 201, (body, response.text)
    for _ in range(12):
        stage.work(later=True)
    stage.backend.learner.reconcile(stage.key)
    assert stage.pool == [first]
    assert stage.backend.store.pending_events() == []


def test_g5_an_event_that_cannot_be_applied_keeps_none_behind_it_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody had thought of ended the job at the same event each time."""
    stage.approve(1)
    really = stage.backend.learner.apply

    def apply(event: Any) -> Any:
        if event.action == "PROJECT_UPDATED":
            raise AttributeError("nobody thought of this")
        return really(event)

    monkeypatch.setattr(stage.backend.learner, "apply", apply)
    stage.event("PROJECT_UPDATED")
    stage.approve(2)
    assert len(stage.pool) == 2


# -- G6 ------------------------------------------------------------------------------------------------------------
POINT = {
    "from_name": "point", "to_name": "image", "type": "keypointlabels", "original_width": 64, "original_height": 48,
    "value": {"x": 20, "y": 30, "width": 1, "keypointlabels": ["cell"]},
}  # fmt: skip
BOX = {**POINT, "type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 0, "height": 5, "rotation": 0}}


@pytest.mark.parametrize(
    "params",
    [None, {}, {"context": None}, {"context": {}}, {"context": {"result": []}}],
    ids=["none", "empty", "null", "no result", "nothing clicked"],
)
def test_g6_a_request_without_a_click_gets_the_ordinary_prediction(colourful: Stage, params: Any) -> None:
    colourful.approve(1)
    image, mask = blob(2)
    (prediction,) = colourful.predict(colourful.upload(image), params=params)
    assert (mask_of(prediction["result"][0]) == mask).all()


@pytest.mark.parametrize(
    "hint",
    [POINT, BOX, {**POINT, "value": {"x": 140, "y": -3, "keypointlabels": ["cell"]}}],
    ids=["no is_positive", "no width", "outside"],
)
def test_g6_a_click_without_is_positive_counts_and_what_points_at_nothing_gets_nothing(
    colourful: Stage, hint: dict[str, Any]
) -> None:
    colourful.approve(1)
    image, mask = blob(2)
    rows, columns = np.nonzero(mask)
    place = {"x": 100 * columns.mean() / 64, "y": 100 * rows.mean() / 48, "keypointlabels": ["cell"]}
    given = {**hint, "value": place} if hint is POINT else hint
    (prediction,) = colourful.predict(colourful.upload(image), params={"context": {"result": [given]}})
    if hint is not POINT:
        assert prediction == []
    else:
        assert iou(mask_of(prediction["result"][0]), mask) > 0.9


def test_g6_a_request_without_params_and_project_is_answered(colourful: Stage) -> None:
    colourful.approve(1)
    (task,) = colourful.blobs(1, first=2)
    rows = [colourful.label_studio.tasks[task]]
    answer = colourful.client.post("/predict", json={"tasks": rows})
    assert (answer.status_code, answer.json()["results"]) == (200, [[]])
    answer = colourful.client.post("/predict", json={"tasks": rows, "project": colourful.project})
    assert answer.json()["results"][0]["result"]
