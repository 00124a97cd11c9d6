"""Roll back takes out of use what was seen in use, and nothing else; each version says why it is what it is."""

from collections.abc import Callable
from typing import Any

import pytest

from backend.errors import NotFound, Refused
from backend.store import PromptRecord
from tests.backend.stage import Stage
from tests.backend.test_prompts import add, statuses


def reasons(stage: Stage) -> dict[int, str]:
    return {prompt.number: prompt.reason for prompt in stage.prompts}


def once(act: Callable[[], object]) -> Callable[[], None]:
    """Does something the first time that it is called."""
    left = [act]

    def call() -> None:
        if left:
            left.pop()()

    return call


@pytest.fixture
def two(stage: Stage) -> Stage:
    """Prompt 2 in use, which replaced prompt 1."""
    stage.approve(1)
    for seed in (1, 2):
        add(stage, seed, activate=True, reason=f"IoU 0.{seed}")
    return stage


@pytest.fixture
def with_dog(stage: Stage) -> Stage:
    """A project with a second label."""
    project = stage.label_studio.projects[stage.project]
    project["label_config"] = project["label_config"].replace(
        '<Label value="cell"', '<Label value="dog"/><Label value="cell"', 1
    )
    stage.setup()
    return stage


# -- reasons -------------------------------------------------------------------------------------------------------
def test_what_replaces_another_and_what_is_in_use_again_have_reasons_of_their_own(two: Stage) -> None:
    """One reason was written to both: a replaced version had its successor's figures as the reason why it is what it
    is, and one that was in use again said "Rolled back by hand."."""
    assert reasons(two) == {1: "Replaced by prompt 2.", 2: "IoU 0.2"}
    two.backend.prompts.roll_back(two.key)
    assert reasons(two) == {1: "In use again: prompt 2 was rolled back.", 2: "Rolled back by hand."}
    two.backend.prompts.activate(two.key, 2)
    assert reasons(two) == {1: "Replaced by prompt 2.", 2: "Activated by hand."}


# -- which one -----------------------------------------------------------------------------------------------------
def test_rolled_back_twice_by_the_number_that_was_seen_it_goes_back_once(two: Stage) -> None:
    """A button pressed twice went two versions back: the second press took out of use what the first had put there."""
    roll_back = two.backend.prompts.roll_back
    assert roll_back(two.key, number=2).retired.number == 2
    with pytest.raises(Refused, match=r"Prompt 2 of 'cell' is not active; in use: prompt 1\."):
        roll_back(two.key, number=2)
    assert statuses(two) == {1: "active", 2: "retired"}
    assert roll_back(two.key, number=1).active is None
    with pytest.raises(Refused, match=r"Prompt 1 of 'cell' is not active; in use: examples alone\."):
        roll_back(two.key, number=1)


def test_what_comes_into_use_while_one_rolls_back_stays(two: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever rolled back without a number read what was active, and took out of use what was by then."""
    three = add(two, 3)
    store, project = two.backend.store, two.backend.store.project
    meanwhile = once(lambda: store.prompts.activate_prompt(two.key, two.target, three, 9.0, "better"))
    monkeypatch.setattr(store, "project", lambda key: (meanwhile(), project(key))[1])
    with pytest.raises(Refused, match=r"Prompt 2 of 'cell' is not active; in use: prompt 3\."):
        two.backend.prompts.roll_back(two.key)
    assert statuses(two) == {1: "retired", 2: "retired", 3: "active"}


def test_what_comes_into_use_while_another_one_is_watched_stays(
    two: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version activated while the kept IoUs of the one before were read was retired for that one's figures."""
    three = add(two, 3)

    def fell(_before: object, _since: object) -> str:
        two.backend.prompts.activate(two.key, three)
        return "Kept IoU fell."

    monkeypatch.setattr("backend.prompts.versions.fell", fell)
    assert two.backend.prompts.watch(two.key) == []
    assert statuses(two) == {1: "retired", 2: "retired", 3: "active"}
    assert reasons(two)[2] == "Replaced by prompt 3."


def test_a_number_that_is_not_there_or_of_another_label_is_refused(two: Stage) -> None:
    roll_back = two.backend.prompts.roll_back
    with pytest.raises(NotFound, match="no prompt 7"):
        roll_back(two.key, number=7)
    for target, label in (("tag/image/dog", None), (None, "dog"), (two.target, "dog")):
        with pytest.raises(Refused, match="Prompt 2 is of 'cell', target tag/image/cell"):
            roll_back(two.key, target, label=label, number=2)
    with pytest.raises(Refused, match="No prompt of 'dog' is active"):
        roll_back(two.key, label="dog")
    assert statuses(two) == {1: "retired", 2: "active"}
    assert roll_back(two.key, two.target, label="cell", number=2).retired.number == 2


def test_with_several_in_use_the_one_must_be_named_by_number_label_or_target(with_dog: Stage) -> None:
    one = add(with_dog, activate=True)
    two = add(with_dog, activate=True, target="tag/image/dog", label="dog")
    prompts = with_dog.backend.prompts
    with pytest.raises(Refused, match=r"Say which one: 1 \(tag/image/cell\), 2 \(tag/image/dog\)"):
        prompts.roll_back(with_dog.key)
    assert prompts.roll_back(with_dog.key, label="dog").retired.number == two
    prompts.activate(with_dog.key, two)
    assert prompts.roll_back(with_dog.key, "tag/image/dog").retired.number == two
    prompts.activate(with_dog.key, two)
    assert prompts.roll_back(with_dog.key, number=one).retired.number == one


@pytest.mark.parametrize("unfit", [{"target": "tag/image/gone"}, {"checkpoint": "vit-large-00000000"}])
def test_an_active_one_that_is_not_used_does_not_stand_in_the_way(
    with_dog: Stage, unfit: dict[str, Any]
) -> None:
    """With one in use, and the active one of a label that had left the config, there were "several"."""
    used = add(with_dog, activate=True)
    unused = add(with_dog, activate=True, **({"target": "tag/image/dog", "label": "cell"} | unfit))
    assert with_dog.setup().endswith(f"-p{used}")
    prompts = with_dog.backend.prompts
    assert prompts.roll_back(with_dog.key).retired.number == used
    prompts.activate(with_dog.key, used)
    assert prompts.roll_back(with_dog.key, label="cell").retired.number == used
    assert prompts.roll_back(with_dog.key).retired.number == unused  # the only active one
    assert statuses(with_dog) == {used: "retired", unused: "retired"}


# -- where to ------------------------------------------------------------------------------------------------------
def test_after_an_older_one_was_activated_by_hand_it_goes_to_what_that_one_had_replaced(two: Stage) -> None:
    """As docs/tuning.md says. Were it back to the newer one, going back again and again would never end."""
    two.backend.prompts.activate(two.key, 1)
    assert two.backend.prompts.roll_back(two.key).active is None
    assert statuses(two) == {1: "retired", 2: "retired"}


def test_one_that_was_replaced_and_does_not_fit_is_not_gone_back_to(stage: Stage) -> None:
    stage.approve(1)
    add(stage, 1, activate=True, checkpoint="vit-large-00000000")
    add(stage, 2, activate=True)
    assert stage.backend.prompts.roll_back(stage.key).active is None
    record: PromptRecord = stage.prompts[0]
    assert (record.status, record.reason) == ("retired", "Replaced by prompt 2.")
