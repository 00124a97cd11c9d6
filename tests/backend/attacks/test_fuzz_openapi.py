"""Everything that the OpenAPI document describes, driven by Schemathesis: what is answered is what is documented."""

from typing import Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from tests.backend.attacks.arena import ADMIN_TOKEN, Arena
from tests.backend.attacks.fuzzing import inputs, trying

# A schema cannot say that the binary of an import is a prompt's file.
TOO_MUCH_TO_ASK = [checks.positive_data_acceptance]
# Label Studio's payloads lie by omission and change from version to version: what can be made out of them is used.
FORGIVEN = [checks.negative_data_rejection]
FORGIVING = ("/setup", "/predict", "/webhook")


def strategy(operation: Any, mode: GenerationMode, key: str) -> st.SearchStrategy[Any]:
    """Requests that fit the document, or do not; mostly about the project that is there."""
    free = operation.as_strategy(mode)
    if "{key}" not in operation.path:
        return free  # type: ignore[no-any-return]
    ours = operation.as_strategy(mode, path_parameters={"key": key})
    return st.one_of(ours, ours, free)


def ask_much(operation: Any, mode: GenerationMode, key: str) -> None:
    excluded = [*TOO_MUCH_TO_ASK, *(FORGIVEN if operation.path in FORGIVING else ())]

    @inputs(30)
    @given(case=strategy(operation, mode, key))
    def ask(case: Any) -> None:
        with trying("OpenAPI operations"):
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            case.call_and_validate(headers=headers, excluded_checks=excluded)

    ask()


def test_every_answer_to_every_documented_request_is_documented(
    arena: Arena, subtests: pytest.Subtests
) -> None:
    stage = arena.stage
    admin = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    document = schemathesis.openapi.from_asgi("/openapi.json", stage.app, headers=admin)
    found: list[Any] = list(document.get_all_operations())
    operations = [each.ok() for each in found]
    assert len(operations) > 20
    for operation in operations:
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and not (operation.body or operation.path_parameters):
                continue  # there is nothing that could be wrong
            with subtests.test(f"{operation.label} {mode.value}"):
                ask_much(operation, mode, stage.key)
        with subtests.test(f"{operation.label}: the worker"):
            stage.tune()
            arena.work()


def test_after_the_requests_the_right_examples_are_learned(arena: Arena) -> None:
    arena.still_learns(44)
