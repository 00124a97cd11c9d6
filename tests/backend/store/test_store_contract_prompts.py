"""The contract of `Store`, part 3: tunings and the prompts that come of them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest

from backend.errors import StoreError
from backend.store import PromptRecord, PromptStore, Store, TuningRecord
from backend.store.records import TuningStatus

OpenStore = Callable[[], Store]
Answer = TypeVar("Answer")
HERE, THERE = "12.1700000000", "3.1600000000"
CAT, DOG = "tag/image/Cat", "tag/image/Dog"
CONTENT = b"\x00safetensors\xff"


def prompt(target: str = CAT, **fields: object) -> PromptRecord:
    basis = PromptRecord(
        HERE, 0, target, "Ünal's 🐈", "embedded-1a2b3c4d", "candidate", "both", "tuned", 100.5,
        {"iou": 0.75, "gain": None}, ("k2", "k1"), ("k1",), reason="made",
    )  # fmt: skip
    return replace(basis, **fields)  # type: ignore[arg-type]  # fields of PromptRecord


def queued(prompts: PromptStore, target: str = CAT, project: str = HERE) -> TuningRecord:
    tuning = prompts.add_tuning(project, target, "by hand", 10.5)
    assert tuning is not None
    return tuning


def ended(prompts: PromptStore, status: TuningStatus, target: str = CAT) -> TuningRecord:
    tuning = replace(queued(prompts, target), status=status, ended=20.5, reason="because")
    prompts.put_tuning(tuning)
    return tuning


def stored(prompts: PromptStore, number: int, project: str = HERE) -> PromptRecord:
    return next(version for version in prompts.prompts(project) if version.number == number)


def at_once(open_store: OpenStore, ask: Callable[[PromptStore, int], Answer]) -> list[Answer]:
    """What eight threads are answered who ask at the same moment, half of them through another handle."""
    handles = [open_store().prompts, open_store().prompts]
    together = threading.Barrier(8)

    def wait_and_ask(thread: int) -> Answer:
        together.wait()
        return ask(handles[thread % 2], thread)

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(wait_and_ask, range(8)))


class TestTunings:
    def test_a_new_tuning_is_queued_and_comes_back(self, prompts: PromptStore) -> None:
        tuning = prompts.add_tuning(HERE, CAT, "Ünal, by hand", 10.5)
        assert tuning is not None
        assert tuning == TuningRecord(tuning.id, HERE, CAT, "queued", "Ünal, by hand", 10.5)
        assert prompts.tuning(tuning.id) == tuning
        assert prompts.tuning(tuning.id + 1) is None
        assert prompts.tuning_state(tuning.id) is None

    def test_a_target_has_one_open_tuning(self, prompts: PromptStore) -> None:
        tuning = queued(prompts)
        assert prompts.add_tuning(HERE, CAT, "by hand", 11.0) is None
        prompts.put_tuning(replace(tuning, status="running"))
        assert prompts.add_tuning(HERE, CAT, "by hand", 12.0) is None
        assert queued(prompts, DOG).id != tuning.id
        assert queued(prompts, CAT, THERE).id != tuning.id

    @pytest.mark.parametrize("status", ["stopped", "done", "failed"])
    def test_a_tuning_that_has_ended_makes_room(self, prompts: PromptStore, status: TuningStatus) -> None:
        first = ended(prompts, status)
        assert queued(prompts).id > first.id

    def test_of_many_who_ask_at_once_through_two_handles_one_gets_the_tuning(
        self, open_store: OpenStore
    ) -> None:
        answers = at_once(open_store, lambda prompts, thread: prompts.add_tuning(HERE, CAT, "", thread))
        got = [answer for answer in answers if answer is not None]
        assert len(got) == 1
        assert open_store().prompts.tunings(HERE) == got

    def test_progress_comes_back_whole(self, prompts: PromptStore) -> None:
        tuning = replace(
            queued(prompts), status="running", started=11.5, ended=13.5, updated=12.5, step=7, steps=200, loss=0.125,
            validation_iou=0.75, seconds_left=90.25, checkpoint="embedded-1a2b3c4d", examples=("k2", "k1"), prompt=3,
            reason="Ünal 🐈",
        )  # fmt: skip
        prompts.put_tuning(tuning)
        assert prompts.tuning(tuning.id) == tuning
        assert prompts.tunings(HERE) == [tuning]

    def test_progress_does_not_overrule_who_asked_it_to_stop(self, prompts: PromptStore) -> None:
        tuning = queued(prompts)
        prompts.ask_stop(tuning.id)
        prompts.ask_stop(10_000)
        prompts.put_tuning(replace(tuning, status="running", step=1))
        assert prompts.tuning(tuning.id) == replace(tuning, status="running", step=1, stop=True)

    def test_progress_does_not_ask_to_stop(self, prompts: PromptStore) -> None:
        tuning = queued(prompts)
        prompts.put_tuning(replace(tuning, stop=True))
        assert prompts.tuning(tuning.id) == tuning

    def test_only_the_tuning_that_was_asked_stops(self, prompts: PromptStore) -> None:
        cat, dog = queued(prompts), queued(prompts, DOG)
        prompts.ask_stop(cat.id)
        assert [tuning.stop for tuning in prompts.tunings()] == [False, True]
        prompts.put_tuning(replace(dog, step=5))
        assert prompts.tuning(cat.id) == replace(cat, stop=True)

    @pytest.mark.parametrize("name", ["loss", "validation_iou", "seconds_left"])
    def test_what_is_no_number_comes_back_as_not_measured(self, prompts: PromptStore, name: str) -> None:
        tuning = replace(queued(prompts), step=1, loss=0.5, validation_iou=0.5, seconds_left=0.5)
        prompts.put_tuning(replace(tuning, **{name: float("nan")}))  # type: ignore[arg-type]  # a field of it
        assert prompts.tuning(tuning.id) == replace(tuning, **{name: None})  # type: ignore[arg-type]

    @pytest.mark.parametrize("status", ["running", "stopped"])
    def test_what_it_needs_to_go_on_stays_until_there_is_something_newer(
        self, prompts: PromptStore, status: TuningStatus
    ) -> None:
        tuning = queued(prompts)
        prompts.put_tuning(replace(tuning, status="running"), b"\x00first\xff")
        prompts.put_tuning(replace(tuning, status=status, step=2))
        assert prompts.tuning_state(tuning.id) == b"\x00first\xff"
        prompts.put_tuning(replace(tuning, status=status, step=3), b"")
        assert prompts.tuning_state(tuning.id) == b""
        assert prompts.tuning_state(tuning.id + 1) is None

    @pytest.mark.parametrize("status", ["done", "failed"])
    @pytest.mark.parametrize("last", [None, b"last"])
    def test_what_it_needs_to_go_on_is_forgotten_at_its_end(
        self, prompts: PromptStore, status: TuningStatus, last: bytes | None
    ) -> None:
        tuning, other = queued(prompts), queued(prompts, DOG)
        for each in (tuning, other):
            prompts.put_tuning(replace(each, status="running"), b"state")
        prompts.put_tuning(replace(tuning, status=status), last)
        assert prompts.tuning_state(tuning.id) is None
        assert prompts.tuning_state(other.id) == b"state"

    def test_a_stopped_tuning_is_queued_again_with_all_that_it_had(self, prompts: PromptStore) -> None:
        tuning = replace(
            queued(prompts), status="stopped", started=11.0, ended=12.0, step=5, steps=9, reason="why"
        )
        prompts.put_tuning(tuning, b"state")
        prompts.ask_stop(tuning.id)
        assert prompts.reopen_tuning(tuning.id) is True
        assert prompts.tuning(tuning.id) == replace(tuning, status="queued", ended=None, reason="")
        assert prompts.tuning_state(tuning.id) == b"state"
        assert prompts.reopen_tuning(tuning.id) is False
        assert prompts.add_tuning(HERE, CAT, "by hand", 13.0) is None

    @pytest.mark.parametrize("status", ["queued", "running", "done", "failed"])
    def test_only_a_stopped_tuning_is_queued_again(self, prompts: PromptStore, status: TuningStatus) -> None:
        tuning = ended(prompts, status)
        assert prompts.reopen_tuning(tuning.id) is False
        assert prompts.reopen_tuning(tuning.id + 1) is False
        assert prompts.tunings() == [tuning]

    def test_a_stopped_tuning_is_not_queued_again_beside_an_open_one(self, prompts: PromptStore) -> None:
        first, dog = ended(prompts, "stopped"), ended(prompts, "stopped", DOG)
        second = queued(prompts)
        assert prompts.reopen_tuning(first.id) is False
        assert prompts.tuning(first.id) == first
        assert prompts.reopen_tuning(dog.id) is True
        prompts.put_tuning(replace(second, status="done"))
        assert prompts.reopen_tuning(first.id) is True

    def test_of_many_stopped_ones_queued_again_at_once_one_is_open(self, open_store: OpenStore) -> None:
        before = open_store().prompts
        stopped = [ended(before, "stopped") for _ in range(8)]
        answers = at_once(open_store, lambda prompts, thread: prompts.reopen_tuning(stopped[thread].id))
        assert answers.count(True) == 1
        assert [tuning.id for tuning in before.tunings() if tuning.is_open] == [
            stopped[answers.index(True)].id
        ]

    def test_tunings_come_newest_first_of_one_project_or_of_all(self, prompts: PromptStore) -> None:
        first, second, third = queued(prompts), queued(prompts, CAT, THERE), queued(prompts, DOG)
        assert prompts.tunings() == [third, second, first]
        assert prompts.tunings(HERE) == [third, first]
        assert prompts.tunings(THERE) == [second]
        assert prompts.tunings("99.1") == []

    def test_an_id_is_never_given_again(self, open_store: OpenStore) -> None:
        before = open_store()
        ids = [ended(before.prompts, "failed").id for _ in range(3)]
        before.close()
        ids += [ended(open_store().prompts, "done").id for _ in range(2)]
        assert ids == sorted(set(ids))


class TestPrompts:
    def test_a_prompt_comes_back_as_a_candidate_with_its_file(self, prompts: PromptStore) -> None:
        kept = prompts.add_prompt(prompt(number=99, status="active"), CONTENT)
        assert kept == prompt(number=1)
        assert prompts.prompts(HERE) == [kept]
        assert prompts.prompt_content(HERE, 1) == CONTENT
        assert prompts.prompt_content(HERE, 2) is None
        assert prompts.prompt_content(THERE, 1) is None

    def test_numbers_start_at_one_in_each_project(self, prompts: PromptStore) -> None:
        targets = [(HERE, CAT), (HERE, DOG), (THERE, CAT), (HERE, CAT)]
        kept = [
            prompts.add_prompt(prompt(target, project=project), CONTENT + bytes([number]))
            for number, (project, target) in enumerate(targets)
        ]
        assert [version.number for version in kept] == [1, 2, 1, 3]
        assert prompts.prompts(HERE) == [kept[0], kept[1], kept[3]]
        assert prompts.prompts(HERE, CAT) == [kept[0], kept[3]]
        assert prompts.prompts(HERE, "tag/image/Cow") == []
        assert prompts.prompts(THERE) == [kept[2]]
        contents = [prompts.prompt_content(HERE, number) for number in (1, 2, 3)]
        assert contents == [CONTENT + b"\x00", CONTENT + b"\x01", CONTENT + b"\x03"]

    def test_a_number_is_given_once_to_many_who_ask_at_once(self, open_store: OpenStore) -> None:
        kept = at_once(
            open_store, lambda prompts, thread: prompts.add_prompt(prompt(), bytes([thread])).number
        )
        assert sorted(kept) == list(range(1, 9))
        prompts = open_store().prompts
        assert [prompts.prompt_content(HERE, number) for number in kept] == [
            bytes([thread]) for thread in range(8)
        ]

    def test_a_tuning_ends_with_the_prompt_that_came_of_it(self, prompts: PromptStore) -> None:
        prompts.add_prompt(prompt(DOG), CONTENT)
        tuning = replace(queued(prompts), status="running")
        prompts.put_tuning(tuning, b"state")
        done = replace(tuning, status="done", ended=30.5, step=9, reason="better by 0.1")
        kept = prompts.add_prompt(prompt(), CONTENT, tuning=done, activate=True)
        assert (kept.number, kept.status) == (2, "active")
        assert prompts.tuning(tuning.id) == replace(done, prompt=2)
        assert prompts.tuning_state(tuning.id) is None
        assert prompts.add_tuning(HERE, CAT, "by hand", 40.0) is not None

    def test_where_the_tuning_cannot_be_kept_nothing_is(self, prompts: PromptStore) -> None:
        prompts.add_prompt(prompt(), CONTENT, activate=True)
        before = prompts.prompts(HERE)
        tuning = replace(queued(prompts), status="running")
        prompts.put_tuning(tuning, b"state")
        unfit = replace(tuning, status="done", reason="lone surrogate \ud800")
        with pytest.raises(StoreError, match="cannot be kept"):
            prompts.add_prompt(prompt(), CONTENT, tuning=unfit, activate=True)
        assert prompts.prompts(HERE) == before
        assert prompts.prompt_content(HERE, 2) is None
        assert (prompts.tuning(tuning.id), prompts.tuning_state(tuning.id)) == (tuning, b"state")

    def test_projects_never_see_each_other(self, prompts: PromptStore) -> None:
        theirs = prompts.add_prompt(prompt(project=THERE), b"theirs", activate=True)
        prompts.add_prompt(prompt(), b"ours", activate=True)
        assert prompts.retire_prompt(HERE, 1, None, 300.0, "off") is True
        assert prompts.prompts(THERE) == [theirs]
        prompts.add_prompt(prompt(project=THERE), b"theirs too")
        assert prompts.activate_prompt(HERE, CAT, 2, 300.0, "theirs") is False
        assert prompts.activate_prompt(THERE, CAT, 2, 300.0, "ours") is True
        assert [version.status for version in prompts.prompts(HERE)] == ["retired"]
        assert (prompts.prompt_content(HERE, 1), prompts.prompt_content(THERE, 1)) == (b"ours", b"theirs")

    def test_everything_is_there_after_a_restart(self, open_store: OpenStore) -> None:
        before = open_store()
        tuning = replace(queued(before.prompts), status="running", step=3)
        before.prompts.put_tuning(tuning, b"state")
        large = bytes(range(256)) * 20_000
        kept = [before.prompts.add_prompt(prompt(), content, activate=True) for content in (large, b"")]
        versions = before.prompts.prompts(HERE)
        before.close()
        after = open_store().prompts
        assert after.prompts(HERE) == versions
        assert versions[1] == kept[1]
        assert [after.prompt_content(HERE, number) for number in (1, 2)] == [large, b""]
        assert (after.tunings(), after.tuning_state(tuning.id)) == ([tuning], b"state")
