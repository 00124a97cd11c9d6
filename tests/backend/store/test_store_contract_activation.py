"""The contract of `Store`, part 6: which version of a prompt is in use, and the way back."""

import pytest

from backend.store import PromptStore
from tests.backend.store.test_store_contract_prompts import (
    CAT,
    CONTENT,
    DOG,
    HERE,
    THERE,
    OpenStore,
    at_once,
    prompt,
    stored,
)


def active(prompts: PromptStore, target: str = CAT) -> list[int]:
    return [version.number for version in prompts.prompts(HERE, target) if version.status == "active"]


def replaced(prompts: PromptStore) -> list[int | None]:
    return [version.replaced for version in prompts.prompts(HERE)]


class TestActivation:
    def test_activation_retires_the_one_before_and_each_has_a_reason_of_its_own(
        self, prompts: PromptStore
    ) -> None:
        for _ in range(2):
            prompts.add_prompt(prompt(), CONTENT)
        assert prompts.activate_prompt(HERE, CAT, 1, 200.5, "the first") is True
        assert stored(prompts, 1) == prompt(number=1, status="active", activated=200.5, reason="the first")
        assert stored(prompts, 2) == prompt(number=2)
        assert prompts.activate_prompt(HERE, CAT, 2, 300.5, "better") is True
        assert stored(prompts, 1) == prompt(
            number=1, status="retired", activated=200.5, retired=300.5, reason="Replaced by prompt 2."
        )
        assert stored(prompts, 2) == prompt(
            number=2, status="active", activated=300.5, replaced=1, reason="better"
        )

    def test_each_target_has_an_active_prompt_of_its_own(self, prompts: PromptStore) -> None:
        for target in (CAT, DOG, CAT):
            prompts.add_prompt(prompt(target), CONTENT, activate=True)
        assert (active(prompts, CAT), active(prompts, DOG)) == ([3], [2])
        assert replaced(prompts) == [None, None, 1]
        assert prompts.retire_prompt(HERE, 2, None, 300.0, "off") is True
        assert (active(prompts, CAT), active(prompts, DOG)) == ([3], [])

    @pytest.mark.parametrize(
        ("target", "number"), [(CAT, 99), (CAT, 0), (CAT, 3), (DOG, 2), (CAT, 1), ("Cow", 1)]
    )
    def test_an_unknown_number_another_target_s_or_the_active_one_change_nothing(
        self, prompts: PromptStore, target: str, number: int
    ) -> None:
        prompts.add_prompt(prompt(), CONTENT, activate=True)
        prompts.add_prompt(prompt(), CONTENT)
        prompts.add_prompt(prompt(DOG), CONTENT)
        before = prompts.prompts(HERE)
        assert prompts.activate_prompt(HERE, target, number, 300.0, "no") is False
        assert prompts.prompts(HERE) == before

    def test_going_back_does_not_make_the_newer_one_a_forerunner(self, prompts: PromptStore) -> None:
        for _ in range(2):
            prompts.add_prompt(prompt(), CONTENT, activate=True)
        assert replaced(prompts) == [None, 1]
        prompts.activate_prompt(HERE, CAT, 1, 300.0, "back")
        assert (active(prompts), replaced(prompts)) == ([1], [None, 1])
        prompts.activate_prompt(HERE, CAT, 2, 400.0, "and forth")
        assert (active(prompts), replaced(prompts)) == ([2], [None, 1])

    def test_going_back_by_more_than_one_does_not_either(self, prompts: PromptStore) -> None:
        """With 1.replaced = 3, rolling back again and again went round 1, 3, 2, 1 and never came to examples alone."""
        for _ in range(3):
            prompts.add_prompt(prompt(), CONTENT, activate=True)
        prompts.activate_prompt(HERE, CAT, 1, 300.0, "back")
        assert (active(prompts), replaced(prompts)) == ([1], [None, 1, 2])

    def test_whatever_is_activated_the_forerunners_come_to_an_end(self, prompts: PromptStore) -> None:
        for _ in range(4):
            prompts.add_prompt(prompt(), CONTENT)
        for number in [3, 1, 4, 2, 1, None, 2, 3, 4, 1, 3, 2, None, 4, 2, 3, 1, 4]:
            if number is None:
                prompts.retire_prompt(HERE, active(prompts)[0], None, 300.0, "")
            else:
                prompts.activate_prompt(HERE, CAT, number, 300.0, "")
            forerunner = {version.number: version.replaced for version in prompts.prompts(HERE)}
            for start in forerunner:
                at: int | None = start
                for _ in forerunner:
                    at = forerunner[at] if at is not None else None
                assert at is None

    def test_a_prompt_active_at_once_replaces_the_one_before(self, prompts: PromptStore) -> None:
        prompts.add_prompt(prompt(created=100.5, reason="first"), CONTENT, activate=True)
        kept = prompts.add_prompt(prompt(created=200.5, reason="better"), CONTENT, activate=True)
        assert kept == prompt(
            number=2, status="active", created=200.5, activated=200.5, replaced=1, reason="better"
        )
        assert prompts.prompts(HERE) == [
            prompt(
                number=1, status="retired", activated=100.5, retired=200.5, reason="Replaced by prompt 2."
            ),
            kept,
        ]

    def test_of_many_activations_at_once_one_prompt_is_active(self, open_store: OpenStore) -> None:
        before = open_store().prompts
        for _ in range(8):
            before.add_prompt(prompt(), CONTENT)

        def activate(prompts: PromptStore, thread: int) -> list[int]:
            seen = []
            for turn in range(5):
                prompts.activate_prompt(HERE, CAT, 1 + (thread + turn) % 8, 300.0, "")
                seen.append(len(active(prompts)))
            prompts.add_prompt(prompt(), CONTENT, activate=True)
            return [*seen, len(active(prompts))]

        assert at_once(open_store, activate) == [[1] * 6] * 8
        assert len(before.prompts(HERE)) == 16


class TestGoingBack:
    def test_the_one_before_is_in_use_again_and_each_has_a_reason_of_its_own(
        self, prompts: PromptStore
    ) -> None:
        """Both had the roll back's reason, so the one in use said that it was rolled back."""
        for _ in range(2):
            prompts.add_prompt(prompt(), CONTENT, activate=True)
        assert prompts.retire_prompt(HERE, 2, 1, 300.5, "kept IoU fell") is True
        assert prompts.prompts(HERE) == [
            prompt(
                number=1, status="active", activated=300.5, reason="In use again: prompt 2 was rolled back."
            ),
            prompt(
                number=2, status="retired", activated=100.5, retired=300.5, replaced=1, reason="kept IoU fell"
            ),
        ]

    def test_to_examples_alone(self, prompts: PromptStore) -> None:
        prompts.add_prompt(prompt(), CONTENT, activate=True)
        assert prompts.retire_prompt(HERE, 1, None, 300.5, "examples alone are better") is True
        gone = prompt(
            number=1, status="retired", activated=100.5, retired=300.5, reason="examples alone are better"
        )
        assert prompts.prompts(HERE) == [gone]
        assert prompts.retire_prompt(HERE, 1, None, 400.0, "again") is False
        assert prompts.prompts(HERE) == [gone]

    def test_a_retired_prompt_that_is_active_again_is_retired_no_more(self, prompts: PromptStore) -> None:
        prompts.add_prompt(prompt(), CONTENT, activate=True)
        prompts.retire_prompt(HERE, 1, None, 300.0, "off")
        prompts.activate_prompt(HERE, CAT, 1, 400.5, "on")
        assert stored(prompts, 1) == prompt(number=1, status="active", activated=400.5, reason="on")

    def test_step_by_step_to_the_first_and_to_examples_alone(self, prompts: PromptStore) -> None:
        for _ in range(3):
            prompts.add_prompt(prompt(), CONTENT, activate=True)
        seen = []
        while found := active(prompts):
            seen += found
            before = stored(prompts, found[0]).replaced
            assert prompts.retire_prompt(HERE, found[0], before, 300.0, "off") is True
            assert replaced(prompts) == [None, 1, 2]
        assert seen == [3, 2, 1]

    def test_one_that_is_not_active_any_more_takes_nothing_with_it(self, prompts: PromptStore) -> None:
        """A roll back that was decided before another version came into use took that one out of use."""
        for _ in range(3):
            prompts.add_prompt(prompt(), CONTENT, activate=True)
        prompts.add_prompt(prompt(), CONTENT)
        before = prompts.prompts(HERE)
        for number in (2, 4, 99):
            for back_to in (1, None):
                assert prompts.retire_prompt(HERE, number, back_to, 300.0, "no") is False
        assert prompts.retire_prompt(THERE, 3, None, 300.0, "no") is False
        assert prompts.prompts(HERE) == before

    @pytest.mark.parametrize("back_to", [2, 3, 99, 0])
    def test_back_to_itself_to_another_target_s_or_to_none_that_there_is_changes_nothing(
        self, prompts: PromptStore, back_to: int
    ) -> None:
        for target in (CAT, CAT, DOG):
            prompts.add_prompt(prompt(target), CONTENT, activate=True)
        before = prompts.prompts(HERE)
        assert prompts.retire_prompt(HERE, 2, back_to, 300.0, "no") is False
        assert prompts.prompts(HERE) == before

    def test_of_many_who_take_the_same_one_back_one_does(self, open_store: OpenStore) -> None:
        before = open_store().prompts
        for _ in range(3):
            before.add_prompt(prompt(), CONTENT, activate=True)
        answers = at_once(
            open_store, lambda prompts, thread: prompts.retire_prompt(HERE, 3, 2, 300.0, f"by {thread}")
        )
        assert answers.count(True) == 1
        assert (active(before), stored(before, 3).reason) == ([2], f"by {answers.index(True)}")
