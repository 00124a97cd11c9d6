"""The contract of `Store`, part 1: projects, events, approvals, examples, and what sharing means."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from backend.errors import StoreError
from backend.store import (
    Approval,
    Change,
    ExampleInfo,
    PredictionRecord,
    ProjectRecord,
    Store,
    StoredExample,
    WaitingEvents,
)

OpenStore = Callable[[], Store]
HERE, THERE = "12.1700000000", "3.1600000000"
A_PREDICTION = PredictionRecord(
    HERE, 7, "r1", 100.0, 0.75, {"Cat": ("k2", "k1")}, {"Cat": b"\x00cat"}, seconds=1.5
)


def approval(annotation: int = 70, digest: str = "says this", **fields: object) -> Approval:
    basis = Approval(HERE, 7, annotation, "drawn", 5, "2026-03-01T12:00:00.500000Z", digest, 3.25)
    return replace(basis, **fields)  # type: ignore[arg-type]  # fields of Approval


def example(key: str, annotation: int = 70, target: str = "tag/image/Cat", **fields: object) -> StoredExample:
    basis = ExampleInfo(
        key,
        HERE,
        target,
        7,
        annotation,
        "drawn",
        5,
        "2026-03-01T12:00:00Z",
        0.25,
        bytes([0, 255, 7, 1]),
        None,
    )
    info = replace(basis, **fields)  # type: ignore[arg-type]  # fields of ExampleInfo
    return StoredExample(info, b"\x89PNG image of " + key.encode(), b"\x89PNG mask\x00of " + key.encode())


def keys(infos: Sequence[ExampleInfo]) -> list[str]:
    return [info.key for info in infos]


class TestProjects:
    def test_a_project_never_seen_is_none(self, store: Store) -> None:
        assert store.project(HERE) is None
        assert store.projects() == []

    def test_the_first_label_config_makes_the_record_and_moves_nothing(self, store: Store) -> None:
        assert store.put_label_config(HERE, "<View/>", "f1") is False
        assert store.project(HERE) == ProjectRecord(HERE, "<View/>", "f1")

    def test_other_targets_move_the_generation_once(self, store: Store) -> None:
        store.put_label_config(HERE, "<View/>", "f1")
        assert store.put_label_config(HERE, "<View><!-- same --></View>", "f1") is False
        assert store.put_label_config(HERE, "<View>new</View>", "f2") is True
        assert store.put_label_config(HERE, "<View>new</View>", "f2") is False
        assert store.project(HERE) == ProjectRecord(HERE, "<View>new</View>", "f2", generation=1)

    def test_only_the_config_s_own_project_moves(self, store: Store) -> None:
        for key in (HERE, THERE):
            store.put_label_config(key, "<View/>", "f1")
        store.put_label_config(HERE, "<View/>", "f2")
        assert [(project.key, project.generation) for project in store.projects()] == [(HERE, 1), (THERE, 0)]

    def test_a_generation_moves_by_one_and_makes_the_record(self, store: Store) -> None:
        assert [store.move_generation(HERE), store.move_generation(HERE)] == [1, 2]
        assert store.project(HERE) == ProjectRecord(HERE, generation=2)

    def test_a_reconcile_keeps_its_time_and_signs(self, store: Store) -> None:
        store.put_label_config(HERE, "<View/>", "f1")
        store.mark_reconciled(HERE, 1700.125, "7/3/1")
        store.mark_reconciled(THERE, 5.0, "0")
        assert store.project(HERE) == ProjectRecord(HERE, "<View/>", "f1", reconciled=1700.125, signs="7/3/1")
        assert store.project(THERE) == ProjectRecord(THERE, reconciled=5.0, signs="0")


class TestEvents:
    def test_events_come_back_whole_and_oldest_first(self, store: Store) -> None:
        body = {
            "annotation": {"id": 3, "result": [{"value": {"rle": [0, 255], "x": 1.5}}]},
            "who": "Ünal 🐈\u0000",
        }
        first = store.add_event(HERE, "ANNOTATION_CREATED", body, 10.5)
        second = store.add_event(THERE, "TASKS_DELETED", {}, 9.0)
        events = store.pending_events()
        assert [event.id for event in events] == [first, second]
        assert (events[0].project, events[0].action, events[0].received) == (HERE, "ANNOTATION_CREATED", 10.5)
        assert events[0].body == body
        assert events[0].attempts == 0

    def test_a_limit_leaves_the_newest_for_later(self, store: Store) -> None:
        events = [store.add_event(HERE, "A", {}, 1.0) for _ in range(3)]
        assert [event.id for event in store.pending_events(limit=2)] == events[:2]

    def test_a_project_s_events_are_found_behind_any_number_of_another_s(self, store: Store) -> None:
        others = [store.add_event(THERE, "A", {}, 5.0 - number) for number in range(3)]
        mine = [store.add_event(HERE, "B", {}, 7.0 + number) for number in range(2)]
        assert [event.id for event in store.pending_events(1, HERE)] == mine[:1]
        assert [event.id for event in store.pending_events(project=HERE)] == mine
        assert store.pending_events(project="9.9") == []
        assert store.waiting_events() == {THERE: WaitingEvents(3, 3.0), HERE: WaitingEvents(2, 7.0)}
        for event in others:
            store.finish_event(event)
        assert store.waiting_events() == {HERE: WaitingEvents(2, 7.0)}

    def test_a_finished_event_is_pending_no_more(self, store: Store) -> None:
        first, second = (store.add_event(HERE, "A", {}, 1.0) for _ in range(2))
        store.finish_event(first)
        store.finish_event(first)
        store.finish_event(10_000)
        assert [event.id for event in store.pending_events()] == [second]

    def test_the_id_of_a_finished_event_is_not_given_again(self, store: Store) -> None:
        first = store.add_event(HERE, "A", {}, 1.0)
        store.finish_event(first)
        assert store.add_event(HERE, "A", {}, 1.0) != first

    def test_failed_attempts_are_counted_and_the_event_stays(self, store: Store) -> None:
        event = store.add_event(HERE, "A", {}, 1.0)
        assert [store.retry_event(event, "no answer"), store.retry_event(event, "no answer")] == [1, 2]
        assert [(event.id, event.attempts) for event in store.pending_events()] == [(event, 2)]

    def test_an_event_that_is_gone_has_no_attempts(self, store: Store) -> None:
        assert store.retry_event(4, "gone") == 0


class TestApprovals:
    def test_an_approval_is_stored_with_its_examples(self, store: Store) -> None:
        cat, dog = example("k1"), example("k2", target="tag/image/Dog", score=0.5, annotator=None)
        assert store.put_approval(approval(), [cat, dog]) is Change.NEW
        assert store.approvals(HERE) == [approval()]
        assert store.examples(["k1", "k2"]) == {"k1": cat, "k2": dog}
        assert store.pool(HERE) == [cat.info, dog.info]

    def test_an_approval_may_teach_nothing(self, store: Store) -> None:
        nothing = approval(annotator=None, lead_time=None, kind="accepted")
        assert store.put_approval(nothing, []) is Change.NEW
        assert store.approvals(HERE) == [nothing]
        assert store.pool(HERE) == []

    def test_a_correction_replaces_all_that_was_taught_before(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1"), example("k2", target="tag/image/Dog")])
        corrected = approval(digest="says that", kind="corrected", at="2026-03-01T12:00:01Z")
        assert store.put_approval(corrected, [example("k3")]) is Change.CHANGED
        assert store.approvals(HERE) == [corrected]
        assert keys(store.pool(HERE)) == ["k3"]

    @pytest.mark.parametrize("examples", [[example("k2")], [], None])
    def test_of_the_same_digest_only_a_later_approval_is_written(
        self, store: Store, examples: list[StoredExample] | None
    ) -> None:
        store.put_approval(approval(), [example("k1")])
        later = approval(at="2026-03-02T00:00:00Z", kind="corrected")
        earlier = approval(at="2026-02-02T00:00:00Z")
        for again, stays in ((earlier, approval()), (later, later), (approval(), later)):
            assert store.put_approval(again, examples) is Change.UNCHANGED
            assert store.approvals(HERE) == [stays]
        assert store.pool(HERE) == [example("k1").info]
        assert [(project.key, project.approvals) for project in store.projects()] == [(HERE, 1)]

    def test_without_examples_nothing_but_a_time_is_written(self, store: Store) -> None:
        assert store.put_approval(approval(), None) is Change.STALE
        assert store.approvals(HERE) == []
        store.put_approval(approval(), [example("k1")])
        other = approval(digest="says that", at="2026-03-02T00:00:00Z")
        assert store.put_approval(other, None) is Change.STALE
        assert store.approvals(HERE) == [approval()]
        assert keys(store.pool(HERE)) == ["k1"]

    @pytest.mark.parametrize(
        ("stored", "late"),
        [
            ("2026-03-01T12:00:00.500000Z", "2026-03-01T12:00:00Z"),  # as texts, "...00.5Z" < "...00Z"
            ("2026-03-01T12:00:00+00:00", "2026-03-01T13:30:00+02:00"),
            ("2026-03-01T12:00:00.000002Z", "2026-03-01T12:00:00.000001Z"),
            ("2026-03-01T12:00:00Z", "no time at all"),
        ],
    )
    def test_what_is_older_than_what_is_stored_writes_nothing(
        self, store: Store, stored: str, late: str
    ) -> None:
        store.put_approval(approval(at=stored), [example("k1")])
        assert store.put_approval(approval(digest="says that", at=late), [example("k2")]) is Change.STALE
        assert store.approvals(HERE) == [approval(at=stored)]
        assert keys(store.pool(HERE)) == ["k1"]

    def test_another_digest_of_the_same_instant_is_a_change(self, store: Store) -> None:
        store.put_approval(approval(at="2026-03-01T12:00:00Z"), [example("k1")])
        same_instant = approval(digest="says that", at="2026-03-01T12:00:00.000+00:00")
        assert store.put_approval(same_instant, []) is Change.CHANGED

    def test_only_new_approvals_are_counted_and_the_count_never_falls(self, store: Store) -> None:
        store.put_approval(approval(1), [])
        store.put_approval(approval(1), [])
        store.put_approval(approval(1, digest="says that"), [])
        store.put_approval(approval(2), [])
        store.put_approval(approval(3, project=THERE), [])
        store.withdraw(HERE, [1, 2])
        assert [(project.key, project.approvals) for project in store.projects()] == [(HERE, 2), (THERE, 1)]

    def test_annotations_of_two_projects_do_not_touch_each_other(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1")])
        store.put_approval(approval(project=THERE), [example("k2", project=THERE)])
        assert store.withdraw(THERE, [70]) == [approval(project=THERE)]
        assert store.approvals(HERE) == [approval()]
        assert (keys(store.pool(HERE)), keys(store.pool(THERE))) == (["k1"], [])

    def test_withdrawing_takes_approvals_and_examples_and_says_which(self, store: Store) -> None:
        for annotation in (72, 70, 71):
            store.put_approval(approval(annotation), [example(f"k{annotation}", annotation)])
        assert store.withdraw(HERE, [72, 70, 999]) == [approval(70), approval(72)]
        assert store.withdraw(HERE, [72, 70]) == []
        assert store.withdraw(HERE, []) == []
        assert store.approvals(HERE) == [approval(71)]
        assert keys(store.pool(HERE)) == ["k71"]

    def test_an_annotation_approved_again_after_its_withdrawal_is_new(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1")])
        store.withdraw(HERE, [70])
        assert store.put_approval(approval(), [example("k1")]) is Change.NEW
        assert keys(store.pool(HERE)) == ["k1"]

    def test_approvals_come_by_annotation_and_of_the_tasks_asked_for(self, store: Store) -> None:
        stored = [approval(9, task=1), approval(8, task=2), approval(10, task=2), approval(7, task=3)]
        for one in stored:
            store.put_approval(one, [])
        assert [one.annotation for one in store.approvals(HERE)] == [7, 8, 9, 10]
        assert [one.annotation for one in store.approvals(HERE, tasks={2, 3, 99})] == [7, 8, 10]
        assert store.approvals(HERE, tasks=[]) == []

    def test_lists_may_be_longer_than_a_database_takes_parameters(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1")])
        many = range(70, 40_070)
        assert store.approvals(HERE, tasks=range(40_000)) == [approval()]
        assert list(store.examples([f"k{number}" for number in range(40_000)])) == ["k1"]
        assert store.withdraw(HERE, many) == [approval()]


class TestExamples:
    def test_the_pool_is_in_order_of_approval_whatever_came_first(self, store: Store) -> None:
        for key, annotation, at in [
            ("k9", 1, "2026-03-01T12:00:00.250000Z"),
            ("k2", 2, "2026-03-01T12:00:00Z"),
            ("k1", 3, "2026-03-01T13:00:00+01:00"),  # the same instant as k2
            ("k0", 4, "2026-03-01T12:00:01Z"),
        ]:
            store.put_approval(approval(annotation, at=at), [example(key, annotation, at=at)])
        assert keys(store.pool(HERE)) == ["k1", "k2", "k9", "k0"]

    def test_the_pool_of_a_target_holds_nothing_else(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1"), example("k2", target="tag/image/cat")])
        assert keys(store.pool(HERE, "tag/image/Cat")) == ["k1"]
        assert keys(store.pool(HERE, "tag/image/cat")) == ["k2"]
        assert store.pool(HERE, "Cat") == []
        assert store.pool(THERE, "tag/image/Cat") == []

    def test_unknown_keys_are_left_out(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1")])
        assert store.examples(["k1", "k1", "nobody"]) == {"k1": example("k1")}
        assert store.examples([]) == {}

    def test_dropped_examples_leave_their_approvals(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1"), example("k2")])
        assert store.drop_examples(["k1", "nobody"]) == 1
        assert store.drop_examples(["k1"]) == 0
        assert store.approvals(HERE) == [approval()]
        assert keys(store.pool(HERE)) == ["k2"]

    def test_a_dropped_example_does_not_come_back_with_the_same_digest(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1")])
        store.drop_examples(["k1"])
        assert store.put_approval(approval(), [example("k1")]) is Change.UNCHANGED
        assert store.pool(HERE) == []

    def test_scores_are_remembered_and_unknown_keys_ignored(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1"), example("k2"), example("k3")])
        store.score_examples({"k1": 0.5, "k2": 0.0, "nobody": 1.0})
        store.score_examples({"k1": 0.625})
        store.score_examples({})
        assert {info.key: info.score for info in store.pool(HERE)} == {"k1": 0.625, "k2": 0.0, "k3": None}
        assert store.examples(["k1"])["k1"].info.score == 0.625

    def test_examples_are_pinned_and_unpinned_and_unknown_keys_ignored(self, store: Store) -> None:
        store.put_approval(approval(), [example("k1"), example("k2", pinned=True), example("k3")])
        assert store.pin_examples(["k1", "k2", "nobody"], True) == 2
        assert {info.key: info.pinned for info in store.pool(HERE)} == {"k1": True, "k2": True, "k3": False}
        assert store.pin_examples(["k2"], False) == 1
        assert store.pin_examples([], True) == 0
        pinned = [(one.info.key, one.info.pinned) for one in store.examples(["k1", "k2"]).values()]
        assert sorted(pinned) == [("k1", True), ("k2", False)]

    def test_what_replaces_a_pinned_example_of_its_label_is_pinned(self, store: Store) -> None:
        cat, dog = "tag/image/Cat", "tag/image/Dog"
        store.put_approval(approval(), [example("k1", target=cat), example("k2", target=dog)])
        store.pin_examples(["k1"], True)
        corrected = [
            example("k3", target=cat),
            example("k4", target=dog),
            example("k5", target="tag/image/Cow"),
        ]
        store.put_approval(approval(digest="corrected"), corrected)
        assert {info.key: info.pinned for info in store.pool(HERE)} == {"k3": True, "k4": False, "k5": False}
        store.put_approval(approval(71), [example("k6", 71, target=cat)])
        assert [info.key for info in store.pool(HERE) if info.pinned] == ["k3"]


class TestSharing:
    def test_what_one_wrote_another_reads_at_once(self, open_store: OpenStore) -> None:
        one, other = open_store(), open_store()
        one.put_approval(approval(), [example("k1")])
        assert other.examples(["k1"]) == {"k1": example("k1")}
        assert other.put_approval(approval(), []) is Change.UNCHANGED

    def test_everything_is_there_after_a_restart(self, open_store: OpenStore) -> None:
        before = open_store()
        event = before.add_event(HERE, "A", {"id": 1}, 1.0)
        before.put_approval(approval(), [example("k1")])
        before.put_prediction(A_PREDICTION)
        before.close()
        after = open_store()
        assert [pending.id for pending in after.pending_events()] == [event]
        assert (after.approvals(HERE), after.pool(HERE)) == ([approval()], [example("k1").info])
        assert after.predictions(HERE, 7) == [A_PREDICTION]

    def test_threads_that_write_at_once_lose_nothing(self, store: Store) -> None:
        together = threading.Barrier(8)

        def write(thread: int) -> None:
            together.wait()
            for number in range(25):
                annotation = 1000 * thread + number
                store.put_approval(approval(annotation), [example(f"k{annotation}", annotation)])
                store.move_generation(HERE)
                assert store.pool(HERE)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(8)))
        project = store.project(HERE)
        assert project is not None
        assert (project.approvals, project.generation) == (200, 200)
        assert len(store.approvals(HERE)) == len(store.pool(HERE)) == 200

    def test_one_of_many_threads_gets_a_lease_and_one_the_note(self, store: Store) -> None:
        together = threading.Barrier(8)

        def ask(thread: int) -> tuple[bool, bool]:
            together.wait()
            return store.acquire("push/1", f"thread {thread}", 1000), store.note_once(
                "seen", f"thread {thread}"
            )

        with ThreadPoolExecutor(8) as threads:
            leases, notes = zip(*threads.map(ask, range(8)), strict=True)
        assert (leases.count(True), notes.count(True)) == (1, 1)

    def test_a_write_that_fails_half_way_leaves_nothing(self, store: Store) -> None:
        unfit = example("k2", area=None)
        with pytest.raises(StoreError):
            store.put_approval(approval(), [example("k1"), unfit])
        assert (store.approvals(HERE), store.pool(HERE), store.project(HERE)) == ([], [], None)
        assert store.put_approval(approval(), [example("k1")]) is Change.NEW

    @pytest.mark.parametrize("action", ["lone surrogate \ud800"])
    def test_a_text_that_cannot_be_kept_is_an_error_of_the_store(self, store: Store, action: str) -> None:
        with pytest.raises(StoreError, match="cannot be kept"):
            store.add_event(HERE, action, {}, 1.0)
        assert store.pending_events() == []

    def test_a_closed_store_says_so(self, store: Store) -> None:
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.project(HERE)
