"""One backend a file of attacks."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

from tests.backend.attacks import fuzzing
from tests.backend.attacks.arena import Arena


@pytest.fixture(scope="session", autouse=True)
def _say_what_hangs(pytestconfig: pytest.Config) -> None:
    fuzzing.OUT[0] = pytestconfig.stash.get(fault_handler_stderr_fd_key, 2)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory, checkpoint_file: Path) -> Iterator[Arena]:
    with ExitStack() as opened:
        yield Arena(opened, tmp_path_factory.mktemp("arena") / "data", checkpoint_file)
