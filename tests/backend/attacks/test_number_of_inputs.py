"""How many inputs have been tried when the attacks are over."""

from pathlib import Path

import pytest

from tests.backend.attacks.fuzzing import FACTOR, TRIED


def test_ten_thousand_inputs_were_tried(request: pytest.FixtureRequest) -> None:
    files = {file.name for file in Path(__file__).parent.glob("test_fuzz_*.py")}
    if not files <= {item.path.name for item in request.session.items}:
        pytest.skip("only some of the attacks were asked for")
    assert sum(TRIED.values()) >= 10_000 * FACTOR, TRIED
