"""What tests of the backend share: Label Studio's part of the network, faked on loopback."""

from collections.abc import Iterator

import pytest

from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import FakeBucket


@pytest.fixture
def fake_label_studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as server:
        yield server


@pytest.fixture
def bucket() -> Iterator[FakeBucket]:
    with FakeBucket() as server:
        yield server
