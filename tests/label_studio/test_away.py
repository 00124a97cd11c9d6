"""A real Label Studio that is stopped in the middle of a background pass, and started again."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from backend.demo.pictures import LABELS, draw
from backend.demo.process import free_port
from backend.demo.server import LabelStudioServer
from backend.demo.session import Session
from tests.label_studio.conftest import LABEL_CONFIG, StartBackend
from tests.label_studio.stage import ANSWER_SECONDS, PATIENT, Stage, eventually

RED, _ = LABELS
AWAY, BACK = "What needs Label Studio waits", "Label Studio answers again"
UNREACHABLE = "cannot be reached"
PICTURES = 60
PATIENCE_SECONDS = 900.0  # they are many; what may be there twice is looked at again within ten minutes


@pytest.fixture
def studio(label_studio_template: Path, tmp_path: Path) -> Iterator[LabelStudioServer]:
    """One of its own, since it is stopped."""
    server = LabelStudioServer(tmp_path / "label-studio", free_port(), settings=PATIENT)
    with ExitStack() as running:
        running.callback(server.stop)
        server.start(template=label_studio_template)
        yield server


@pytest.mark.parametrize("worker", ["on", "inside"])
def test_after_a_restart_in_the_middle_of_a_pass_every_task_is_predicted(
    studio: LabelStudioServer, start_backend: StartBackend, worker: str
) -> None:
    with closing(Session(studio.url, studio.login)) as session:
        settings = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": session.new_personal_token()}
        limits = {"DEVICE": "cpu", "OMP_NUM_THREADS": "1", "RECONCILE_EVERY": "5", "COLUMNS": "400"}
        backend = start_backend({**settings, **limits, "WORKER": worker})
        stage = Stage(session, backend, session.create_project("Restarted", label_config=LABEL_CONFIG))
        stage.upload([draw(number, width=240, height=180) for number in range(1, PICTURES + 1)])
        stage.connect()
        first, *others = stage.pictures
        stage.approve(first, [RED])
        eventually(lambda: done(stage), "predicting has begun", PATIENCE_SECONDS)

        studio.stop()
        eventually(lambda: told(stage, AWAY) > told(stage, BACK), "the log says that it is away")
        assert 0 < done(stage) < len(others), "it was stopped in the middle"
        health = httpx.get(f"{backend.url}/health", timeout=ANSWER_SECONDS, trust_env=False)
        assert health.json()["status"] == "UP"
        studio.start()

        eventually(lambda: done(stage) == len(others), "all are predicted", PATIENCE_SECONDS)
        expected = {task: [stage.version()] for task in others}

        def held() -> bool:
            found = {task: session.predictions(task) for task in others}
            return {
                task: [each["model_version"] for each in rows] for task, rows in found.items()
            } == expected

        eventually(held, "one prediction of each", PATIENCE_SECONDS)
        # It may have been slow besides, which is told as well.
        eventually(lambda: told(stage, AWAY) == told(stage, BACK) > 0, "the log says that it is back")
        assert told(stage, AWAY, UNREACHABLE) <= 1
        assert stage.taught() != set()


def done(stage: Stage) -> int:
    """Tasks whose background prediction Label Studio holds, as the backend knows it."""
    if stage.key not in {project["project"] for project in stage.backend.get("/api/projects")}:
        return 0
    states = stage.backend.get(f"/api/projects/{stage.key}/tasks")
    return sum(state["status"] == "done" for state in states)


def told(stage: Stage, *words: str) -> int:
    """How many lines of the log have all of these words."""
    said = stage.backend.process.log.read_text().splitlines()
    return sum(all(each in line for each in words) for line in said)
