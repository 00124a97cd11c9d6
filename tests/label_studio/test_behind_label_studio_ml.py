"""A real Label Studio connected to label-studio-ml 1.0.9, which runs our model class, which asks our backend."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.errors import LabelStudioError
from tests.backend import hosting
from tests.label_studio.conftest import MakeStage, StartBackend
from tests.label_studio.stage import RunningBackend, RunningLabelStudio, Stage, eventually

LABEL = "red cell"
FIT_SECONDS = 15.0  # 1.0.9 has a process for each event, in which the model class looks for ten seconds


@pytest.fixture
def alone(label_studio: RunningLabelStudio, start_backend: StartBackend) -> RunningBackend:
    """A backend that pushes nothing by itself, as docs/connect.md says for 1.0.9."""
    return start_backend(
        {
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.personal_token,
            "PRE_ANNOTATE": "off",
            "DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
    )


@pytest.fixture
def host(alone: RunningBackend, tmp_path: Path) -> Iterator[httpx.Client]:
    with hosting.release_1_0_9(tmp_path, SEGGPT_URL=alone.url) as client:
        yield client


def has_moved(stage: Stage, first: str) -> bool:
    """Whether another version comes while the process of an event looks for it; else the next event brings it."""
    end = time.monotonic() + FIT_SECONDS
    while (same := stage.version() == first) and time.monotonic() < end:
        time.sleep(0.25)
    return not same


def test_label_studio_learns_and_predicts_through_label_studio_ml(
    make_stage: MakeStage, alone: RunningBackend, host: httpx.Client
) -> None:
    stage = make_stage(7, connect=False, backend=alone)
    address = str(host.base_url).rstrip("/")

    def connected() -> int:
        with suppress(
            LabelStudioError
        ):  # refused where the model class has waited three seconds for the backend
            return stage.session.connect(stage.id, address)
        return 0

    stage.connection = eventually(connected, "the connection")
    assert [hook["url"] for hook in stage.session.webhooks(stage.id)] == [f"{address}/webhook"]
    first = stage.version()
    two, three, *others = stage.pictures
    taught: list[tuple[int, str]] = []
    for task in others:
        taught.append((stage.approve(task, [LABEL]), LABEL))
        stage.wait_taught(*taught)
        if has_moved(stage, first):
            break

    def retrieved() -> dict[int, dict[str, Any]]:
        """Those of Label Studio's version, so that it is not asked for again; all of one look, since that may move."""
        stage.session.retrieve_predictions(stage.id, [two, three])
        version = stage.version()
        found = [
            (task, one)
            for task in (two, three)
            for one in stage.session.predictions(task)
            if one["model_version"] == version
        ]
        return dict(found) if [task for task, _ in found] == [two, three] else {}

    for task, prediction in eventually(retrieved, "one prediction of each").items():
        assert prediction["model_version"] != first
        assert stage.iou(task, prediction, LABEL) > 0.3
        assert 0 <= prediction["score"] <= 1
