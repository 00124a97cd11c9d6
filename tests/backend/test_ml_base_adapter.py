"""The model class for label-studio-ml: under the real 1.0.9, and under what its repository has today."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backend import hosting
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.served import KEY, PROJECT, Served, until
from tests.backend.stage import blob, brush, data_uri, mask_of, now, png

pytestmark = pytest.mark.slow

FIT_SECONDS = 15.0  # 1.0.9 has a process for each event, in which the model class looks for ten seconds
PASSWORD = {"BASIC_AUTH_USER": "label", "BASIC_AUTH_PASS": "studio"}
LOOK = {
    "project": KEY, "schema": LABEL_CONFIG, "hostname": "", "access_token": "", "extra_params": None
}  # fmt: skip


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Our backend, with the embedded checkpoint, whose masks are not empty."""
    started = Served(tmp_path, Path("embedded"), **PASSWORD)
    started.client.auth = ("label", "studio")
    yield started
    started.stop()


@pytest.fixture
def old(served: Served, tmp_path: Path) -> Iterator[httpx.Client]:
    with hosting.release_1_0_9(tmp_path, **asking(served)) as client:
        yield client


@pytest.fixture
def current(served: Served, tmp_path: Path) -> Iterator[httpx.Client]:
    with hosting.todays(tmp_path, **asking(served)) as client:
        yield client


def asking(served: Served) -> dict[str, str]:
    return {"SEGGPT_URL": f"http://127.0.0.1:{served.port}", **PASSWORD}


def approval(annotation: int) -> dict[str, Any]:
    image, mask = blob(annotation)
    row = {
        "id": annotation, "task": annotation, "result": [brush(mask)], "updated_at": now(), "lead_time": 1.0,
        "was_cancelled": False, "updated_by": 1, "completed_by": 1,
    }  # fmt: skip
    task = {"id": annotation, "data": {"image": data_uri(png(image))}, "project": 1}
    return {"action": "ANNOTATION_CREATED", "annotation": row, "task": task, "project": PROJECT}


def question(context: dict[str, Any] | None = None) -> dict[str, Any]:
    """Two tasks, of which the second has no image: it must be answered as one that is not known."""
    tasks = [
        {"id": 101, "data": {"image": data_uri(png(blob(7)[0]))}, "project": 1},
        {"id": 102, "data": {"image": "data:image/png;base64,AAAA"}, "project": 1},
    ]
    params = {"login": "somebody", "password": "storage-password-77", "context": context}
    return {
        "tasks": tasks,
        "project": KEY,
        "label_config": LABEL_CONFIG,
        "params": params,
        "model_version": None,
    }


def look(client: httpx.Client) -> Any:
    """The version that a look at the model shows; on a busy machine the backend answers the adapter too late at first."""

    def given() -> Any:
        answer = client.post("/setup", json=LOOK)
        if answer.status_code == 500:
            assert "does not answer /setup: timed out" in answer.text
            return None
        assert answer.status_code == 200, answer.text
        return answer.json()

    return until(given, what="an answer in time")["model_version"]


def moved_from(client: httpx.Client, served: Served, first: Any) -> Any:
    """The version that follows: with the event, or, where learning took longer than that waits for it, with the next."""
    until(lambda: served.approvals() == 1, what="the approval")
    end = time.monotonic() + FIT_SECONDS
    while look(client) == first and time.monotonic() < end:
        time.sleep(0.1)
    if look(client) == first:
        assert client.post("/webhook", json=approval(1)).status_code == 201
    return until(lambda: (version := look(client)) != first and version, what="another version")


def drawn(prediction: dict[str, Any]) -> list[tuple[str, bytes]]:
    """What a prediction shows, without the ids that every answer makes anew."""
    return [(region["from_name"], mask_of(region).tobytes()) for region in prediction["result"]]


def test_1_0_9_learns_predicts_and_moves_its_version_through_its_own_server(
    old: httpx.Client, served: Served
) -> None:
    first = look(old)
    assert first == "INITIAL"
    assert served.client.get(f"/api/projects/{KEY}").status_code == 200  # it has seen the labeling config
    assert old.post("/predict", json=question()).json() == {"results": [[], []], "model_version": first}

    assert old.post("/webhook", json=approval(1)).status_code == 201
    moved = moved_from(old, served, first)
    assert served.approvals() == 1
    answer = old.post("/predict", json=question()).json()
    assert answer["model_version"] == moved
    known, unknown = answer["results"]
    assert unknown == []
    assert set(known) == {"result", "score"}  # Label Studio gives it the version of its last look
    ours = served.client.post("/predict", json=question()).json()["results"][0]
    assert (drawn(known), known["score"]) == (drawn(ours), ours["score"])
    assert known["result"]


def test_1_0_9_hands_clicks_on(old: httpx.Client, served: Served) -> None:
    look(old)
    image, mask = blob(7)
    rows, columns = mask.nonzero()
    click = {
        "id": "k", "type": "keypointlabels", "from_name": "point", "to_name": "image", "is_positive": True,
        "original_width": image.shape[1], "original_height": image.shape[0], "image_rotation": 0,
        "value": {
            "x": 100 * columns.mean() / image.shape[1], "y": 100 * rows.mean() / image.shape[0], "width": 1,
            "keypointlabels": ["cell"],
        },
    }  # fmt: skip
    asked = question({"result": [click]})
    asked["tasks"] = asked["tasks"][:1]
    (answer,) = old.post("/predict", json=asked).json()["results"]
    (ours,) = served.client.post("/predict", json=asked).json()["results"]
    assert drawn(answer) == drawn(ours)
    assert answer["result"][0]["origin"] == "prediction"


def test_1_0_9_s_old_way_to_train_reaches_the_backend_with_the_project(
    old: httpx.Client, served: Served
) -> None:
    look(old)
    asked = {"annotations": [{"id": 1}], "project": KEY, "label_config": LABEL_CONFIG}
    assert old.post("/train", json=asked).status_code == 201
    assert 'events_total{action="START_TRAINING"} 1.0' in served.client.get("/metrics").text


def test_a_backend_that_is_away_costs_no_batch_and_is_named(
    old: httpx.Client, served: Served, tmp_path: Path
) -> None:
    look(old)
    served.process.terminate()
    served.process.wait(300)
    answer = old.post("/predict", json=question())
    assert (answer.status_code, answer.json()["results"]) == (200, [[], []])
    shown = old.post("/setup", json=LOOK)
    assert shown.status_code == 500
    assert f"http://127.0.0.1:{served.port} does not answer /setup" in shown.json()["detail"]
    assert "nothing predicted: " in (tmp_path / "hosting.log").read_text()


def test_todays_version_is_given_the_backend_s_revision_and_predictions(
    current: httpx.Client, served: Served
) -> None:
    first = look(current)
    assert first == served.client.post("/setup", json=LOOK).json()["model_version"]
    assert current.post("/predict", json=question()).json() == {"results": [[], []]}
    assert current.post("/webhook", json=approval(1)).json() == {
        "result": {"status": "stored"},
        "status": "ok",
    }
    until(lambda: served.approvals() == 1)
    moved = until(lambda: (now_at := look(current)) != first and now_at)
    known, unknown = current.post("/predict", json=question()).json()["results"]
    assert unknown == []
    assert known["model_version"] == moved
    ours = served.client.post("/predict", json=question()).json()["results"][0]
    assert drawn(known) == drawn(ours)
    assert known["result"]


def test_todays_version_hands_over_no_event_that_it_does_not_know(
    current: httpx.Client, served: Served
) -> None:
    """So what they tell is found by the backend's own looks, as the docs say."""
    look(current)
    event = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}], "project": PROJECT}
    assert current.post("/webhook", json=event).json() == {"status": "Unknown event"}
    assert 'action="ANNOTATIONS_DELETED"' not in served.client.get("/metrics").text
