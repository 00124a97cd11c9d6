"""Context tuning on a real Label Studio: the button, the progress, the new version, the way back, a killed worker."""

import re
from typing import Any

import httpx
import numpy as np
import pytest

from backend.demo.pictures import LABELS
from backend.prompts.watching import NOTE_EVERY, SAVE_EVERY
from tests.label_studio.conftest import LABEL_CONFIG, MakeStage, StartBackend
from tests.label_studio.stage import ANSWER_SECONDS, RunningBackend, RunningLabelStudio, Stage, eventually
from tests.label_studio.workers import kill_worker_of, worker_of

RED, WHITE = LABELS
ONE_LABEL = re.sub(rf'<Label value="{WHITE}"[^>]*/>', "", LABEL_CONFIG)
LONG_SECONDS = 1200.0


@pytest.fixture(scope="module")
def tuning_backend(label_studio: RunningLabelStudio, start_backend: StartBackend) -> RunningBackend:
    """A backend whose tunings are short and whose gate lets everything through."""
    return start_backend(
        {
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.personal_token,
            "RECONCILE_EVERY": "5",
            "TUNE_GATE": "-1",
            "TUNE_STEPS": "16",
            "DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
    )


def approved(make_stage: MakeStage, backend: RunningBackend) -> Stage:
    """Ten pictures, eight of them approved."""
    stage = make_stage(pictures=10, backend=backend, label_config=ONE_LABEL)
    annotations = [stage.approve(task, [RED]) for task in list(stage.pictures)[:8]]
    stage.wait_taught(*((annotation, RED) for annotation in annotations))
    eventually(backend.has_worked_on_all_events, "the version of the last approval")
    return stage


def tuning(stage: Stage) -> dict[str, Any]:
    """The newest tuning of the project; empty where there is none."""
    tunings = stage.backend.get(f"/api/projects/{stage.key}/tunings")
    return dict(tunings[0]) if tunings else {}


def post(stage: Stage, path: str, body: Any = None) -> Any:
    url = f"{stage.backend.url}/api/projects/{stage.key}/{path}"
    answer = httpx.post(url, json=body or {}, timeout=ANSWER_SECONDS, trust_env=False)
    assert answer.is_success, answer.text
    return answer.json()


def test_start_training_brings_a_new_version_and_roll_back_brings_the_old_masks(
    make_stage: MakeStage, tuning_backend: RunningBackend
) -> None:
    stage = approved(make_stage, tuning_backend)
    *_, last = stage.pictures
    before = stage.version()
    by_examples = stage.wait_predicted(last)[last]

    stage.session.start_training(stage.connection)
    seen: list[dict[str, Any]] = []

    def done() -> bool:
        seen.append(tuning(stage))
        return seen[-1].get("status") in {"done", "failed"}

    eventually(done, "the tuning has ended", LONG_SECONDS)
    assert seen[-1]["status"] == "done", seen[-1]
    assert seen[-1]["asked_by"] == "Start training"
    steps = [look["step"] for look in seen if look.get("status") == "running"]
    assert len(set(steps)) > 2, "progress is to be seen"
    assert steps == sorted(steps)
    assert all(
        look["seconds_left"] > 0 for look in seen if look.get("loss") is not None and look["step"] < 60
    )
    (prompt,) = stage.backend.get(f"/api/projects/{stage.key}/prompts")
    assert prompt["status"] == "active"

    assert stage.version() == f"{before}-p{prompt['number']}"
    by_prompt = stage.wait_predicted(last)[last]
    assert by_prompt["score"] != by_examples["score"]

    back = post(stage, "prompts/rollback")
    assert (back["retired"]["number"], back["active"]) == (prompt["number"], None)
    assert stage.version() == before
    again = stage.wait_predicted(last)[last]
    assert np.array_equal(
        stage.mask(last, again["result"], RED), stage.mask(last, by_examples["result"], RED)
    )


def test_a_worker_that_is_killed_in_the_middle_goes_on_from_where_it_was(
    make_stage: MakeStage, tuning_backend: RunningBackend
) -> None:
    stage = approved(make_stage, tuning_backend)
    stage.session.start_training(stage.connection)
    early = eventually(
        lambda: now if (now := tuning(stage)).get("step", 0) >= 5 else {}, "the tuning runs", LONG_SECONDS
    )
    kept = early["updated"] + SAVE_EVERY + 2 * NOTE_EVERY
    cut = eventually(
        lambda: now if (now := tuning(stage))["updated"] > kept or now["status"] != "running" else {},
        "what came after that has been kept",
        LONG_SECONDS,
    )
    assert cut["status"] == "running"

    worker = kill_worker_of(stage.backend)

    eventually(lambda: worker_of(stage.backend) not in {0, worker}, "there is a new worker")
    seen: list[int] = []

    def done() -> bool:
        now = tuning(stage)
        seen.append(now["step"])
        return bool(now["status"] == "done")

    eventually(done, "the tuning has ended", LONG_SECONDS)
    assert min(seen) >= early["step"], "it began anew"
    ended = tuning(stage)
    assert (ended["id"], ended["started"]) == (cut["id"], cut["started"])
    assert len(stage.backend.get(f"/api/projects/{stage.key}/prompts")) == 1
