"""What tests of the backend share: Label Studio's part of the network, faked on loopback."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import FakeBucket
from tests.backend.stage import Stage, staged, write_random_checkpoint


@pytest.fixture
def fake_label_studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as server:
        yield server


@pytest.fixture
def bucket() -> Iterator[FakeBucket]:
    with FakeBucket() as server:
        yield server


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "random.safetensors")


@pytest.fixture
def stage(fake_label_studio: FakeLabelStudio, tmp_path: Path, checkpoint_file: Path) -> Iterator[Stage]:
    """A backend connected to one project of the fake Label Studio."""
    with staged(fake_label_studio, tmp_path / "data", checkpoint_file) as made:
        yield made


@pytest.fixture
def staging(
    fake_label_studio: FakeLabelStudio, tmp_path: Path, checkpoint_file: Path
) -> Iterator[Callable[..., Stage]]:
    """Makes stages with settings of one's own; they share Label Studio and the data folder."""
    with ExitStack() as opened:

        def make(**fields: Any) -> Stage:
            fields = {"folder": tmp_path / "data", "checkpoint": checkpoint_file, **fields}
            return opened.enter_context(staged(fake_label_studio, **fields))

        yield make
