"""Which token opens the pictures of a real Label Studio."""

from collections.abc import Iterator

import httpx
import pytest

from backend.demo.pictures import LABELS
from tests.label_studio.conftest import MakeStage, StartBackend
from tests.label_studio.stage import ANSWER_SECONDS, RunningLabelStudio, Stage, eventually

RED, WHITE = LABELS


@pytest.fixture
def legacy_tokens_allowed(label_studio: RunningLabelStudio) -> Iterator[None]:
    label_studio.session.allow_legacy_tokens(True)
    yield
    label_studio.session.allow_legacy_tokens(False)


def test_a_personal_token_works_where_legacy_tokens_are_refused(
    stage: Stage, label_studio: RunningLabelStudio
) -> None:
    first, second, *_ = stage.pictures
    picture = label_studio.url + stage.session.open_task(first)["data"]["image"]
    legacy = {"Authorization": f"Token {label_studio.legacy_token}"}
    assert httpx.get(picture, headers=legacy, timeout=ANSWER_SECONDS, trust_env=False).status_code == 401

    stage.approve(first, [RED])

    stage.wait_predicted(second)


@pytest.mark.usefixtures("legacy_tokens_allowed")
def test_without_settings_the_token_of_setup_serves_where_legacy_tokens_are_allowed(
    make_stage: MakeStage, start_backend: StartBackend
) -> None:
    stage = make_stage(pictures=2, backend=start_backend({"DEVICE": "cpu", "OMP_NUM_THREADS": "1"}))
    first, second = stage.pictures

    annotation = stage.approve(first, [RED])

    stage.wait_taught((annotation, RED))
    stage.wait_predicted(second)


def test_without_a_token_that_works_the_log_tells_what_to_do(
    make_stage: MakeStage, start_backend: StartBackend
) -> None:
    backend = start_backend({"DEVICE": "cpu", "OMP_NUM_THREADS": "1"})
    stage = make_stage(pictures=2, backend=backend)
    first, second = stage.pictures

    stage.approve(first, [RED])

    eventually(
        lambda: "LABEL_STUDIO_API_KEY" in backend.process.log.read_text(), "a line that names the setting"
    )
    stage.session.retrieve_predictions(stage.id, [second])
    assert stage.session.predictions(second) == []
    assert stage.version(), "Label Studio is content with it"
