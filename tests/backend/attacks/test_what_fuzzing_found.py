"""What the fuzzing found, each with a test of its own."""

import json
import logging
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backend import regions
from backend.errors import LabelConfigError, RegionError
from backend.label_config import MAX_TARGETS, parse
from backend.regions.filling import MAX_CROSSINGS, fill_polygon
from tests.backend.stage import Stage, blob, brush

HUGE = 10**30


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def submitted(stage: Stage, **fields: Any) -> int:
    """An annotation of the next picture whose event is spoilt; the id that Label Studio gave it."""
    image, mask = blob(1)
    annotation = stage.submit(stage.upload(image), brush(mask), tell=False)
    row = stage.label_studio.annotations[annotation]
    task = stage.label_studio.tasks[row["task"]]
    project = stage.label_studio.projects[stage.project]
    body = {"action": "ANNOTATION_CREATED", "annotation": {**row, **fields}, "task": task, "project": project}
    assert stage.client.post("/webhook", content=json.dumps(body)).status_code == 201
    return annotation


@pytest.mark.parametrize(
    "fields",
    [
        {"task": [1]},
        {"task": {"id": 1}},
        {"id": HUGE},
        {"id": -(2**63) - 1},
        {"completed_by": HUGE},
        {"completed_by": {"id": [1]}},
        {"lead_time": 10**400},
        {"lead_time": float("nan")},
        {"lead_time": True},
        {"result": [{"origin": ["manual"]}, {"origin": {}}]},
        {"result": [{"type": ["brushlabels"], "from_name": [], "to_name": {}}]},
        {"updated_at": HUGE},
    ],
    ids=str,
)
def test_an_event_with_a_field_of_another_type_is_applied_or_passed_over_without_an_error(
    stage: Stage, quiet: pytest.LogCaptureFixture, fields: dict[str, Any]
) -> None:
    """Such an event raised TypeError or OverflowError inside the worker, eight times until it was given up."""
    submitted(stage, **fields)
    stage.work()
    assert not [record for record in quiet.records if record.exc_info]
    assert stage.backend.store.pending_events() == []


@pytest.mark.parametrize("number", [HUGE, 2**63, -HUGE, True], ids=str)
def test_a_task_with_an_impossible_id_gets_nothing_and_costs_its_neighbours_nothing(
    stage: Stage, number: int
) -> None:
    """SQLite refused the number: every task of the request got nothing, and the log said that the store was away."""
    stage.segment_by_colour()
    stage.approve(1)
    (task,) = stage.blobs(1, first=2)
    rows = [{**stage.label_studio.tasks[task], "id": number}, stage.label_studio.tasks[task]]
    answer = stage.client.post("/predict", json={"tasks": rows, "project": stage.key})
    assert [bool(item) for item in answer.json()["results"]] == [False, True]


@pytest.mark.parametrize(
    "key", ["9" * 5000 + ".1", "1." + "9" * 5000, "9" * 40 + ".1"], ids=["number", "time", "short"]
)
def test_a_project_key_of_thousands_of_digits_is_not_stored(stage: Stage, key: str) -> None:
    """Python reads no number of more than 4300 digits: every later look at the projects failed."""
    body = {"project": key, "schema": stage.label_studio.projects[stage.project]["label_config"]}
    assert stage.client.post("/setup", json=body).status_code == 200
    assert stage.client.post("/predict", json={"tasks": [], "project": key}).status_code == 200
    assert stage.backend.store.projects() == []
    assert stage.client.get("/api/projects/1").status_code == 404


def test_a_body_that_is_no_text_is_refused_as_the_document_says(stage: Stage) -> None:
    stage.setup()
    for path in ("tunings", "prompts/rollback"):
        kind = {"Content-Type": "application/json"}
        answer = stage.client.post(f"/api/projects/{stage.key}/{path}", content=b"\x81", headers=kind)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("body: ")


def test_questions_about_projects_that_nobody_knows_leave_nothing_in_memory(stage: Stage) -> None:
    """Their revisions were remembered, for when the store is away: one entry for each name that anybody made up."""
    (route,) = (each for each in stage.app.routes if getattr(each, "path", "") == "/setup")
    (service,) = (cell.cell_contents for cell in vars(route)["endpoint"].__closure__)
    for number in range(20):
        stage.client.post("/predict", json={"tasks": [], "project": f"{number + 50}.1767225601"})
        stage.client.post("/setup", json={"project": f"{number + 50}.1767225601"})
    stage.setup()
    assert list(service._revisions) == [stage.key]


def test_the_labels_of_a_region_of_no_type_are_none() -> None:
    """A list in place of the type raised TypeError."""
    assert regions.approved_labels([{"type": ["brushlabels"], "value": {}}, {"type": {}}]) == frozenset()


def test_a_body_with_a_million_mistakes_is_refused_in_a_sentence(stage: Stage) -> None:
    """Each mistake was counted up: 2 MB of zeros were answered with 40 MB, and took a gigabyte meanwhile."""
    answer = stage.client.post("/predict", content=b'{"tasks": [' + b"0," * 10**6 + b"0]}")
    assert answer.status_code == 422
    assert answer.json()["detail"] == "body.tasks.0: Input should be an object"
    stage.setup()
    answer = stage.client.post(f"/api/projects/{stage.key}/tunings", json={"targets": [0] * 900})
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("; and 890 more")
    assert len(answer.content) < 1000


def test_a_polygon_is_filled_in_a_memory_that_does_not_grow_with_its_image() -> None:
    """Each polygon on an image of 16384 x 16384 took 1.5 GB and 8.7 s: a number of four bytes for every pixel."""
    mask = np.zeros((6000, 6000), dtype=np.bool_)
    tracemalloc.start()
    fill_polygon(mask, np.array([[0.0, 0.0], [6000.0, 0.0], [6000.0, 6000.0], [0.0, 6000.0]]))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mask.all()
    assert most < 6000 * 6000


def test_a_polygon_that_goes_up_and_down_without_end_is_refused() -> None:
    """Its cost is the rows that its edges cross in all: some megabytes of points kept a worker busy for minutes."""
    strokes = MAX_CROSSINGS // 4000 + 3
    points = np.array([[number % 4000, 4000 * (number % 2)] for number in range(strokes)], dtype=np.float64)
    with pytest.raises(RegionError, match="edges go over more than"):
        fill_polygon(np.zeros((4000, 4000), dtype=np.bool_), points)


def test_regions_of_an_image_that_would_not_be_read_are_not_painted(
    staging: Callable[..., Stage], quiet: pytest.LogCaptureFixture
) -> None:
    """A region may state any size: masks of 268 million pixels were painted although no such image is decoded."""
    stage = staging(max_image_pixels=64 * 48)
    image, mask = blob(1)
    claimed = {"original_width": 64 * 48, "original_height": 2}
    spoilt = stage.submit(stage.upload(image), {**brush(mask), **claimed})
    stage.work()
    assert "larger than 3072 pixels. Images of that size are not read; see MAX_IMAGE_PIXELS." in quiet.text
    good = stage.approve(2)
    assert stage.pool == [good]
    stage.correct(spoilt, brush(mask))
    stage.work()
    assert sorted(stage.pool) == sorted([good, spoilt])


def crowded(images: int, labels: int, controls: int) -> str:
    """A config in which each control draws each label on each image."""
    names = [f"i{number}" for number in range(images)]
    shown = "".join(f'<Image name="{name}" value="${name}"/>' for name in names)
    named = "".join(f'<Label value="{number}"/>' for number in range(labels))
    drawn = "".join(f'<Brush name="b{number}" toName="{",".join(names)}"/>' for number in range(controls))
    return f'<View>{shown}<Labels name="l" toName="{",".join(names)}">{named}</Labels>{drawn}</View>'


def test_a_small_config_cannot_make_a_hundred_thousand_targets(stage: Stage) -> None:
    """20 KB made 160,000 of them; each had its share of every later request."""
    config = crowded(images=40, labels=40, controls=100)
    assert len(config) < 25_000
    answer = stage.client.post("/setup", json={"project": stage.key, "schema": config})
    assert answer.status_code == 422
    assert "more than 2000 labels to segment" in answer.json()["detail"]
    assert "split the project" in answer.json()["detail"]
    assert stage.backend.store.projects() == []


def test_as_many_labels_as_the_largest_data_sets_have_are_read() -> None:
    assert len(parse(crowded(images=1, labels=MAX_TARGETS, controls=1)).targets) == MAX_TARGETS
    with pytest.raises(LabelConfigError):
        parse(crowded(images=1, labels=MAX_TARGETS + 1, controls=1))


def test_an_image_that_a_control_names_twice_counts_once() -> None:
    config = crowded(images=1, labels=3, controls=2).replace(
        'toName="i0"', f'toName="{",".join(["i0"] * 500)}"'
    )
    assert len(parse(config).targets) == 6
