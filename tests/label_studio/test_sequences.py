"""Frames of sequences on a real Label Studio: near frames first, and what was predicted on the frame before."""

import pytest

from backend.demo.pictures import LABELS, draw
from backend.sequences import predicted_task
from tests.label_studio.conftest import MakeStage, StartBackend
from tests.label_studio.stage import RunningBackend, RunningLabelStudio, Stage, eventually

RED, WHITE = LABELS


@pytest.fixture(scope="module")
def knowing(label_studio: RunningLabelStudio, start_backend: StartBackend) -> RunningBackend:
    """A backend that knows sequences; of two frames it takes the nearer one."""
    return start_backend(
        {
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.personal_token,
            "RECONCILE_EVERY": "5",
            "DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
            "SHOTS": "2",
            "SEQUENCE_KEY": "clip",
            "FRAME_KEY": "image",
        }
    )


def upload(stage: Stage, clip: str, frame: int) -> int:
    """A frame whose number stands in its file's name; Label Studio puts something of its own before that."""
    picture = draw(frame, width=240, height=180)
    (task,) = stage.upload([picture])
    data = stage.session.open_task(task)["data"]
    stage.session.call("PATCH", f"/api/tasks/{task}/", json={"data": {**data, "clip": clip}})
    return task


def behind(stage: Stage, task: int) -> list[int]:
    """Tasks behind the newest prediction, if any; those that nobody has approved are negative."""
    rows = stage.backend.get(f"/api/projects/{stage.key}/tasks/{task}/predictions")
    if not rows:
        return []
    tasks = {example["key"]: int(example["task"]) for example in stage.examples()}
    (keys,) = rows[0]["context"].values()  # of the one label that was approved
    return [tasks.get(key) or -(predicted_task(key) or 0) for key in keys]


def test_near_frames_come_first_and_the_frame_before_helps_where_none_is_near(
    make_stage: MakeStage, knowing: RunningBackend
) -> None:
    stage = make_stage(pictures=0, connect=False, backend=knowing)
    early, late, asked = upload(stage, "a", 1), upload(stage, "a", 9), upload(stage, "a", 8)
    first, second = upload(stage, "b", 3), upload(stage, "b", 4)
    stage.connect()
    taught = [stage.approve(task, [RED]) for task in (late, early)]
    stage.wait_taught(*((annotation, RED) for annotation in taught))

    # Before the second approval was learned, there were predictions by the first alone.
    eventually(lambda: set(behind(stage, second)) >= {early, late}, "both are behind a sequence without any")
    predicted = stage.wait_predicted(asked, first, second)

    assert behind(stage, asked) == [late], "the nearer frame alone, which is half of two shots"
    said = [text for region in predicted[second]["result"] for text in region.get("meta", {}).get("text", [])]
    assert -first in behind(stage, second), "of a sequence of which nothing is approved"
    assert any("frame before" in text for text in said)
