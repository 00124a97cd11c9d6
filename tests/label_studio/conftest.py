"""A real Label Studio for the whole run, a real backend process beside it, and a stage (project) for each test."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from sys import executable
from typing import Any, NoReturn

import pytest

from backend.demo.pictures import draw
from backend.demo.process import LOOPBACK, ManagedProcess, free_port
from backend.demo.server import DATABASE, REPOSITORY, LabelStudioServer, default_venv
from backend.demo.session import Session
from backend.errors import LabelStudioError
from tests.label_studio.stage import ANSWER_SECONDS, PATIENT, RunningBackend, RunningLabelStudio, Stage

LABEL_CONFIG = (REPOSITORY / "label_config.xml").read_text()
HERE = Path(__file__).parent
KEPT = ("PATH", "LANG", "TMPDIR")
PATIENT_BACKEND = {"PREDICT_DEADLINE": "120", "IMAGE_TIMEOUT": "120"}  # less than Label Studio waits

StartBackend = Callable[..., RunningBackend]
StartIn = Callable[[ExitStack, Mapping[str, str]], RunningBackend]
MakeStage = Callable[..., Stage]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.label_studio)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def label_studio_template(pytestconfig: pytest.Config, missing: Callable[[str], NoReturn]) -> Path:
    """A migrated data folder, made once and kept between runs, since migrating takes half a minute or more."""
    venv = default_venv()
    packages = sorted(venv.glob("lib/python*/site-packages/label_studio-*.dist-info"))
    if not packages:
        missing(f"no Label Studio in {venv} (`make test` installs it; LABEL_STUDIO_VENV names another place)")
    kept = pytestconfig.cache.mkdir("label-studio") / packages[0].stem
    if not (kept / DATABASE).exists():
        making = kept.with_name(f"{kept.name}-{os.getpid()}")
        with LabelStudioServer(making, free_port()):
            pass
        shutil.rmtree(kept, ignore_errors=True)
        making.rename(kept)
    return kept


@pytest.fixture(scope="session")
def label_studio(
    label_studio_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningLabelStudio]:
    """A running Label Studio with default settings (but loopback allowed, and patient), logged in."""
    folder = tmp_path_factory.mktemp("label-studio") / "data"
    server = LabelStudioServer(folder, free_port(), settings=PATIENT)
    with ExitStack() as running:
        running.callback(server.stop)
        server.start(template=label_studio_template)
        session = Session(server.url, server.login)
        running.callback(session.close)
        yield RunningLabelStudio(
            url=server.url,
            session=session,
            personal_token=session.new_personal_token(),
            legacy_token=session.legacy_token(),
        )


@pytest.fixture(scope="session")
def kept_variables() -> dict[str, str]:
    """What our processes get of the environment, besides the settings that a test names."""
    return {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("COVERAGE_")}


@pytest.fixture(scope="session")
def start_in(tmp_path_factory: pytest.TempPathFactory, kept_variables: dict[str, str]) -> StartIn:
    """Start `python -m backend serve` with data of its own and these settings, until the stack ends."""

    def start(running: ExitStack, settings: Mapping[str, str]) -> RunningBackend:
        folder = tmp_path_factory.mktemp("backend")
        port = free_port()
        command = [executable, "-m", "backend", "serve", "--host", LOOPBACK, "--port", str(port)]
        environment = {"HOME": str(folder), "PYTHONPATH": str(REPOSITORY), **PATIENT_BACKEND, **settings}
        process = ManagedProcess(
            [*command, "--data-dir", str(folder / "data")],
            env={**kept_variables, **environment},
            cwd=folder,
            log=folder / "backend.log",
        )
        running.callback(process.stop)
        process.start()
        url = f"http://{LOOPBACK}:{port}"
        process.wait_until_healthy(f"{url}/health", "The backend", ANSWER_SECONDS)
        return RunningBackend(url, process)

    return start


@pytest.fixture(scope="module")
def start_backend(start_in: StartIn) -> Iterator[StartBackend]:
    """Start a backend with these settings; stopped after the module's tests, so that it takes nothing from others."""
    with ExitStack() as running:
        yield partial(start_in, running)


@pytest.fixture(scope="session")
def backend(label_studio: RunningLabelStudio, start_in: StartIn) -> Iterator[RunningBackend]:
    """The backend that most tests share: embedded checkpoint, personal token, looks every 5 s for silent changes."""
    settings = {
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.personal_token,
        "RECONCILE_EVERY": "5",
        "DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    with ExitStack() as running:
        yield start_in(running, settings)


@pytest.fixture
def make_stage(label_studio: RunningLabelStudio, backend: RunningBackend) -> Iterator[MakeStage]:
    """Make a project with drawn pictures, connected to the backend; gone after the test."""
    session = label_studio.session
    made: list[int] = []

    def make(
        pictures: int = 4, *, connect: bool = True, backend: RunningBackend = backend, **fields: Any
    ) -> Stage:
        fields = {"label_config": LABEL_CONFIG, **fields}
        project = session.create_project(f"Test {len(made) + 1} of {os.getpid()}", **fields)
        made.append(int(project["id"]))
        stage = Stage(session, backend, project)
        if pictures:
            stage.upload([draw(number, width=240, height=180) for number in range(1, pictures + 1)])
        if connect:
            stage.connect()
        return stage

    yield make
    for project in made:
        with suppress(LabelStudioError):  # some tests delete their project themselves
            session.delete_project(project)


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    """A connected project with four pictures, none approved yet."""
    return make_stage()
