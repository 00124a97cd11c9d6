"""The contract of `Store`, part 4: what is asked often is small, and what nobody needs any more goes."""

from dataclasses import astuple, replace

import pytest

from backend.store import Approval, KeptFigures, KeptIoU, PredictionRecord, Store, TaskState, WaitingTasks

HERE, THERE = "12.1700000000", "3.1600000000"


def prediction(task: int, revision: str, at: float, **fields: object) -> PredictionRecord:
    basis = PredictionRecord(HERE, task, revision, at, 0.75, {"Cat": ("k1",)}, {"Cat": revision.encode()})
    return replace(basis, **fields)  # type: ignore[arg-type]  # fields of PredictionRecord


def revisions(store: Store, task: int, project: str = HERE) -> list[str]:
    return [record.revision for record in store.predictions(project, task)]


class TestFigures:
    def test_without_any_kept_iou_there_is_no_mean(self, store: Store) -> None:
        assert store.kept_figures(HERE) == KeptFigures(count=0, recent=None)

    def test_kept_ious_are_counted_and_the_newest_are_averaged(self, store: Store) -> None:
        kept = [KeptIoU(HERE, task, 70 + task, "Cat", "r1", task / 10, 100.0 * task) for task in (3, 1, 2, 4)]
        store.add_kept([*kept, replace(kept[0], project=THERE, iou=0.0)])
        assert astuple(store.kept_figures(HERE, newest=2)) == pytest.approx((4, 0.35))
        assert astuple(store.kept_figures(HERE)) == pytest.approx((4, 0.25))
        assert store.kept_figures(THERE) == KeptFigures(count=1, recent=0.0)

    def test_of_the_kept_ious_those_of_a_target_and_a_time_are_found_the_newest_of_them(
        self, store: Store
    ) -> None:
        targets = ["Cat", "tag:Cat", "Dog", "Cat", "Cat", "tag:Cat"]
        kept = [KeptIoU(HERE, n, 70 + n, target, "r1", 0.5, 100.0 * n) for n, target in enumerate(targets)]
        store.add_kept([*kept, replace(kept[0], project=THERE)])
        assert store.kept(HERE) == kept
        assert store.kept(HERE, 300.0) == kept[3:]
        assert store.kept(HERE, before=300.0) == kept[:3]
        assert store.kept(HERE, 100.0, before=400.0) == kept[1:4]
        assert store.kept(HERE, newest=2) == kept[4:]
        assert store.kept(HERE, target="Cat") == [kept[0], kept[3], kept[4]]
        assert store.kept(HERE, target="tag:Cat", newest=9) == [kept[1], kept[5]]
        assert store.kept(HERE, target="Cat", before=400.0, newest=1) == [kept[3]]
        assert store.kept(HERE, target="Cow") == store.kept(HERE, newest=0) == []

    def test_a_corrected_kept_iou_counts_once_and_at_its_new_time(self, store: Store) -> None:
        first, second = (KeptIoU(HERE, task, 70 + task, "Cat", "r1", 0.5, 100.0 * task) for task in (1, 2))
        store.add_kept([first, second])
        store.add_kept([replace(first, iou=1.0, at=300.0)])
        assert store.kept_figures(HERE, newest=1) == KeptFigures(count=2, recent=1.0)

    def test_events_are_counted_until_they_are_finished(self, store: Store) -> None:
        assert store.count_events() == 0
        first, _ = (store.add_event(project, "A", {}, 1.0) for project in (HERE, THERE))
        store.retry_event(first, "not yet")
        assert store.count_events() == 2
        store.finish_event(first)
        assert store.count_events() == 1

    def test_states_of_some_tasks_are_those_of_all_without_the_others(self, store: Store) -> None:
        states = [TaskState(HERE, task, "done", "", "r1", 1.0) for task in (12, 7, 9)]
        store.set_task_states([*states, TaskState(THERE, 8, "done", "", "r1", 1.0)])
        assert [state.task for state in store.task_states(HERE, [12, 7, 8, 99])] == [7, 12]
        assert store.task_states(HERE, []) == []
        assert store.task_states(HERE, [9]) == [states[2]]

    def test_tasks_that_wait_are_found_among_all_with_the_time_of_the_last_news(self, store: Store) -> None:
        assert store.waiting_tasks(HERE) == WaitingTasks()
        queued, running = (
            TaskState(HERE, 12, "queued", "", "r1", 5.0),
            TaskState(HERE, 7, "running", "", "r1", 6.0),
        )
        done, failed = TaskState(HERE, 8, "done", "", "r1", 7.5), TaskState(HERE, 9, "failed", "", "r1", 4.0)
        store.set_task_states(
            [queued, running, done, failed, replace(queued, project=THERE, task=3, at=99.0)]
        )
        assert store.waiting_tasks(HERE) == WaitingTasks((running, queued), 7.5)

    def test_a_task_waits_no_longer_once_it_is_done_or_forgotten_and_again_when_queued(
        self, store: Store
    ) -> None:
        states = [TaskState(HERE, task, "queued", "", "r1", 1.0) for task in (7, 8, 9)]
        store.set_task_states(states)
        store.set_task_states([replace(states[0], status="done", at=2.0)])
        store.forget_tasks(HERE, [8])
        assert store.waiting_tasks(HERE) == WaitingTasks((states[2],), 2.0)
        again = replace(states[0], at=3.0)
        store.set_task_states([again])
        assert store.waiting_tasks(HERE) == WaitingTasks((again, states[2]), 3.0)
        store.forget_tasks(HERE, [7, 9])
        assert store.waiting_tasks(HERE) == WaitingTasks()


class TestSupersededPredictions:
    def test_a_prediction_goes_once_a_newer_one_has_been_there_for_long(self, store: Store) -> None:
        for revision, at in [("r1", 100.0), ("r3", 300.0), ("r2", 200.0)]:
            store.put_prediction(prediction(7, revision, at))
        assert store.drop_superseded(HERE, before=199.0) == 0
        assert revisions(store, 7) == ["r3", "r2", "r1"]
        assert store.drop_superseded(HERE, before=200.0) == 1
        assert revisions(store, 7) == ["r3", "r2"]
        assert store.drop_superseded(HERE, before=1000.0) == 1
        assert store.predictions(HERE, 7) == [prediction(7, "r3", 300.0)]
        assert store.predicted_tasks(HERE, "r2") == set()
        assert store.drop_superseded(HERE, before=1000.0) == 0

    def test_the_newest_stays_however_old(self, store: Store) -> None:
        store.put_prediction(prediction(7, "r1", 100.0))
        assert store.drop_superseded(HERE, before=1e12) == 0
        assert revisions(store, 7) == ["r1"]

    def test_what_label_studio_holds_stays_until_it_no_longer_does(self, store: Store) -> None:
        store.put_prediction(prediction(7, "r1", 100.0, pushed=43))
        for revision, at in [("r2", 200.0), ("r3", 300.0)]:
            store.put_prediction(prediction(7, revision, at))
        assert store.drop_superseded(HERE, before=1000.0) == 1
        assert revisions(store, 7) == ["r3", "r1"]
        assert [record.pushed for record in store.pushed(HERE)] == [43]
        store.forget_pushed(HERE, [43])
        assert store.drop_superseded(HERE, before=1000.0) == 1
        assert revisions(store, 7) == ["r3"]

    def test_other_tasks_and_projects_are_left_alone(self, store: Store) -> None:
        for task in (7, 8):
            for revision, at in [("r1", 100.0), ("r2", 200.0)]:
                store.put_prediction(prediction(task, revision, at))
                store.put_prediction(prediction(task, revision, at, project=THERE))
        store.forget_tasks(HERE, [8])
        assert store.drop_superseded(HERE, before=1000.0) == 1
        assert (revisions(store, 7), revisions(store, 8)) == (["r2"], [])
        assert revisions(store, 7, THERE) == revisions(store, 8, THERE) == ["r2", "r1"]

    def test_of_two_made_at_once_the_one_that_was_put_last_stays(self, store: Store) -> None:
        for revision in ("r2", "r1"):
            store.put_prediction(prediction(7, revision, 100.0))
        assert store.drop_superseded(HERE, before=1000.0) == 1
        assert revisions(store, 7) == ["r1"]

    def test_of_many_tasks_none_is_passed_over(self, store: Store) -> None:
        for task in range(450):
            store.put_prediction(prediction(task, "r1", 100.0))
            store.put_prediction(prediction(task, "r2", 200.0))
        assert store.drop_superseded(HERE, before=1000.0) == 450
        assert store.predicted_tasks(HERE, "r1") == set()
        assert store.predicted_tasks(HERE, "r2") == set(range(450))

    def test_approvals_and_kept_ious_stay(self, store: Store) -> None:
        approval = Approval(HERE, 7, 70, "drawn", None, "", "digest")
        kept = KeptIoU(HERE, 7, 70, "Cat", "r1", 0.5, 100.0)
        store.put_approval(approval, [])
        store.add_kept([kept])
        for revision, at in [("r1", 100.0), ("r2", 200.0)]:
            store.put_prediction(prediction(7, revision, at))
        store.drop_superseded(HERE, before=1000.0)
        assert (store.approvals(HERE), store.kept(HERE)) == ([approval], [kept])
