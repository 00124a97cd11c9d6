"""The contract of `Store`, part 2: predictions, kept IoUs, task states, leases and notes."""

from dataclasses import replace

from backend.store import Approval, ExampleInfo, KeptIoU, PredictionRecord, Store, StoredExample, TaskState

HERE, THERE = "12.1700000000", "3.1600000000"


def prediction(task: int = 7, revision: str = "r1", at: float = 100.0, **fields: object) -> PredictionRecord:
    basis = PredictionRecord(
        HERE,
        task,
        revision,
        at,
        0.75,
        {"Cat": ("k2", "k1"), "Dog": ("k3",)},
        {"Cat": b"\x00cat", "Dog": b"dog"},
    )
    return replace(basis, **fields)  # type: ignore[arg-type]  # fields of PredictionRecord


class TestPredictions:
    def test_a_prediction_comes_back_with_its_context_and_masks(self, store: Store) -> None:
        store.put_prediction(prediction(seconds=1.5))
        assert store.predictions(HERE, 7) == [prediction(seconds=1.5)]
        assert store.predictions(HERE, 8) == []
        assert store.predictions(THERE, 7) == []

    def test_a_task_s_predictions_come_newest_first(self, store: Store) -> None:
        for revision, at in [("r1", 100.0), ("r3", 300.0), ("r2", 200.0)]:
            store.put_prediction(prediction(revision=revision, at=at))
        assert [record.revision for record in store.predictions(HERE, 7)] == ["r3", "r2", "r1"]

    def test_the_same_revision_replaces_the_prediction_and_its_masks(self, store: Store) -> None:
        store.put_prediction(prediction())
        anew = prediction(at=200.0, context={"Cat": ("k9",)}, masks={"Cat": b"other"})
        store.put_prediction(anew)
        assert store.predictions(HERE, 7) == [anew]

    def test_predicted_tasks_are_those_of_the_revision(self, store: Store) -> None:
        store.put_prediction(prediction(7))
        store.put_prediction(prediction(8))
        store.put_prediction(prediction(8, revision="r2"))
        assert store.predicted_tasks(HERE, "r1") == {7, 8}
        assert store.predicted_tasks(HERE, "r2") == {8}
        assert store.predicted_tasks(THERE, "r1") == set()

    def test_pushed_predictions_are_listed_oldest_first_without_masks(self, store: Store) -> None:
        store.put_prediction(prediction(9, at=300.0, pushed=41))
        store.put_prediction(prediction(7, at=100.0, pushed=43))
        store.put_prediction(prediction(8, at=200.0))
        store.put_prediction(prediction(8, revision="r2", at=400.0, pushed=44))
        assert store.pushed(HERE) == [
            prediction(7, at=100.0, pushed=43, masks={}),
            prediction(9, at=300.0, pushed=41, masks={}),
            prediction(8, revision="r2", at=400.0, pushed=44, masks={}),
        ]
        assert [record.pushed for record in store.pushed(HERE, except_revision="r1")] == [44]
        assert [record.pushed for record in store.pushed(HERE, except_revision="r9")] == [43, 41, 44]
        assert store.pushed(THERE) == []

    def test_what_label_studio_no_longer_holds_is_not_pushed_any_more(self, store: Store) -> None:
        store.put_prediction(prediction(7, pushed=43))
        store.put_prediction(prediction(8, pushed=44))
        store.forget_pushed(THERE, [43, 44])
        store.forget_pushed(HERE, [43, 999])
        assert [record.pushed for record in store.pushed(HERE)] == [44]
        assert store.predictions(HERE, 7) == [prediction(7)]

    def test_replacing_a_pushed_prediction_keeps_sight_of_what_label_studio_holds(self, store: Store) -> None:
        store.put_prediction(prediction(pushed=43))
        store.put_prediction(prediction(at=200.0))  # /predict answered for the task under the same revision
        assert [record.pushed for record in store.pushed(HERE)] == [43]
        store.put_prediction(prediction(at=300.0, pushed=50))
        assert [record.pushed for record in store.pushed(HERE)] == [43, 50]
        assert [record.pushed for record in store.predictions(HERE, 7)] == [50]

    def test_a_kept_iou_replaces_that_of_the_same_annotation_and_target(self, store: Store) -> None:
        cat, dog = (KeptIoU(HERE, 7, 70, target, "r1", 0.5, 100.0) for target in ("Cat", "Dog"))
        store.add_kept([cat, dog])
        later = replace(cat, iou=0.75, at=200.0, revision="r2")
        store.add_kept([later])
        store.add_kept([])
        assert store.kept(HERE) == [dog, later]

    def test_kept_ious_come_oldest_first_since_a_time(self, store: Store) -> None:
        kept = [KeptIoU(HERE, task, 70 + task, "Cat", "r1", 0.5, 100.0 * task) for task in (3, 1, 2)]
        store.add_kept([*kept, replace(kept[0], project=THERE)])
        assert [one.task for one in store.kept(HERE)] == [1, 2, 3]
        assert [one.task for one in store.kept(HERE, since=200.0)] == [2, 3]


class TestBackgroundWork:
    def test_a_task_s_state_replaces_the_earlier_one(self, store: Store) -> None:
        queued = [TaskState(HERE, task, "queued", "", "r1", 1.0) for task in (10, 9)]
        store.set_task_states([*queued, TaskState(THERE, 9, "done", "", "r1", 1.0)])
        failed = TaskState(HERE, 9, "failed", "the image cannot be read", "r2", 2.0)
        store.set_task_states([failed])
        store.set_task_states([])
        assert store.task_states(HERE) == [failed, queued[0]]

    def test_tasks_that_are_gone_leave_nothing_but_approvals_and_figures(self, store: Store) -> None:
        kept = KeptIoU(HERE, 7, 70, "Cat", "r1", 0.5, 100.0)
        approval = Approval(HERE, 7, 70, "drawn", None, "", "digest")
        info = ExampleInfo("k1", HERE, "Cat", 7, 70, "drawn", None, "", 0.25)
        for task in (7, 8):
            store.put_prediction(prediction(task, pushed=task))
        store.set_task_states([TaskState(HERE, task, "done", "", "r1", 1.0) for task in (7, 8)])
        store.put_approval(approval, [StoredExample(info, b"image", b"mask")])
        store.add_kept([kept])
        store.forget_tasks(THERE, [7, 8])
        store.forget_tasks(HERE, [7, 99])
        assert [state.task for state in store.task_states(HERE)] == [8]
        assert store.predictions(HERE, 7) == []
        assert store.predicted_tasks(HERE, "r1") == {8}
        assert [record.pushed for record in store.pushed(HERE)] == [8]
        assert (store.approvals(HERE), store.pool(HERE), store.kept(HERE)) == ([approval], [info], [kept])

    def test_a_lease_belongs_to_one_owner_until_it_is_given_back(self, store: Store) -> None:
        assert store.acquire("push/1", "me", 1000) is True
        assert store.acquire("push/1", "me", 1000) is True
        assert store.acquire("push/1", "you", 1000) is False
        store.release("push/1", "you")
        assert store.acquire("push/1", "you", 1000) is False
        store.release("push/1", "me")
        assert store.acquire("push/1", "you", 1000) is True

    def test_a_lease_that_has_run_out_goes_to_who_asks(self, store: Store) -> None:
        assert store.acquire("push/1", "me", 0) is True
        assert store.held("push/1") is False
        assert store.acquire("push/1", "you", 1000) is True
        assert store.acquire("push/1", "me", 1000) is False

    def test_leases_are_found_by_the_beginning_of_their_names_to_the_letter(self, store: Store) -> None:
        store.acquire("push/1", "me", 1000)
        assert [store.held(prefix) for prefix in ("push/", "push/1", "")] == [True, True, True]
        assert [store.held(prefix) for prefix in ("push/12", "PUSH", "p%", "p_sh", "*", "ush")] == [False] * 6
        store.release("push/1", "me")
        assert store.held("") is False

    def test_a_note_replaces_the_earlier_one(self, store: Store) -> None:
        assert store.note("seen") is None
        store.set_note("seen", "once")
        store.set_note("seen", "")
        assert store.note("seen") == ""

    def test_a_note_kept_once_stays(self, store: Store) -> None:
        assert store.note_once("seen", "first") is True
        assert store.note_once("seen", "second") is False
        assert store.note("seen") == "first"
