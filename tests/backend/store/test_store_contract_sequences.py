"""The contract of `Store`, part 5: places of examples in sequences, and predicted frames."""

from dataclasses import replace

from backend.store import Approval, ExampleInfo, PredictedFrame, Store, StoredExample

HERE, THERE = "12.1700000000", "3.1600000000"
CAT, DOG = "tag/image/Cat", "a:b%3A🐈"


def frame(task: int, number: float, target: str = CAT, **fields: object) -> PredictedFrame:
    pictures = b"\x89PNG\x00image", b"\x89PNG\xffmask"
    basis = PredictedFrame(HERE, target, task, "clip", number, 1 / 3, 100.0 + task, *pictures)
    return replace(basis, **fields)  # type: ignore[arg-type]  # fields of PredictedFrame


def put(store: Store, *frames: PredictedFrame, keep: int = 99) -> None:
    """Of one task."""
    store.put_frames(frames[0].project, frames[0].task, frames, keep)


def last(
    store: Store, number: float = 1e9, target: str = CAT, sequence: str = "clip"
) -> PredictedFrame | None:
    return store.frame_before(HERE, target, sequence, number)


class TestPlaces:
    def test_an_example_keeps_its_place_and_takes_another_one(self, store: Store) -> None:
        info = ExampleInfo("k1", HERE, CAT, 7, 70, "drawn", 5, "", 0.5, sequence="clip: 1%", frame=0.1)
        pictures = b"image", b"mask"
        others = [
            StoredExample(replace(info, key=key, sequence="", frame=None), *pictures) for key in ("k2", "k3")
        ]
        approval = Approval(HERE, 7, 70, "drawn", 5, "", "digest")
        store.put_approval(approval, [StoredExample(info, *pictures), *others])
        store.place_examples({"k1": ("", None), "k2": ("🐈", -1e300), "nobody": ("clip", 1.0)})
        store.place_examples({})
        places = {info.key: (info.sequence, info.frame) for info in store.pool(HERE)}
        assert places == {"k1": ("", None), "k2": ("🐈", -1e300), "k3": ("", None)}
        assert store.examples(["k1"])["k1"] == StoredExample(
            replace(info, sequence="", frame=None), *pictures
        )
        assert list(store.examples(["nobody"])) == []

    def test_a_place_comes_back_as_it_was_given(self, store: Store) -> None:
        info = ExampleInfo("k1", HERE, CAT, 7, 70, "drawn", 5, "", 0.5, sequence="clip: 1%", frame=0.1 + 0.2)
        store.put_approval(Approval(HERE, 7, 70, "drawn", 5, "", "d"), [StoredExample(info, b"", b"")])
        assert store.pool(HERE) == [info]


class TestFrames:
    def test_the_last_frame_before_one_comes_back_whole(self, store: Store) -> None:
        for task, number in ((7, 1.0), (8, 2.5), (9, -3.0)):
            put(store, frame(task, number), frame(task, number, DOG))
        assert last(store) == frame(8, 2.5)
        assert last(store, 2.5) == frame(7, 1.0)
        assert last(store, 1.0, DOG) == frame(9, -3.0, DOG)
        assert last(store, -3.0) is None

    def test_other_sequences_targets_and_projects_are_not_asked(self, store: Store) -> None:
        put(store, frame(7, 1.0))
        put(store, frame(8, 2.0, sequence="clip:2"))
        put(store, frame(9, 3.0, project=THERE))
        assert last(store) == frame(7, 1.0)
        assert last(store, target=DOG) is None
        assert last(store, sequence="clip:") is None

    def test_of_two_of_one_number_the_one_predicted_last_is_given(self, store: Store) -> None:
        put(store, frame(7, 1.0, at=9.0))
        put(store, frame(8, 1.0, at=8.0))
        assert last(store) == frame(7, 1.0, at=9.0)

    def test_a_task_s_frames_replace_all_that_it_had(self, store: Store) -> None:
        put(store, frame(7, 1.0), frame(7, 1.0, DOG))
        put(store, frame(7, 5.0, sequence="another"))
        assert (last(store), last(store, target=DOG)) == (None, None)
        assert last(store, sequence="another") == frame(7, 5.0, sequence="another")
        store.put_frames(HERE, 7, [], 99)
        assert last(store, sequence="another") is None

    def test_of_a_project_the_newest_stay(self, store: Store) -> None:
        put(store, frame(1, 1.0, project=THERE), keep=2)
        for task, number in ((7, 3.0), (8, 1.0), (9, 2.0)):
            put(store, frame(task, number), keep=2)
        assert last(store) == frame(9, 2.0)
        assert last(store, 2.0) == frame(8, 1.0)
        assert store.frame_before(THERE, CAT, "clip", 9.0) is not None

    def test_tasks_that_are_gone_take_their_frames_along(self, store: Store) -> None:
        put(store, frame(7, 1.0), frame(7, 1.0, DOG))
        put(store, frame(8, 2.0))
        store.forget_tasks(HERE, [8, 9])
        assert last(store) == frame(7, 1.0)
        store.forget_tasks(HERE, [7])
        assert (last(store), last(store, target=DOG)) == (None, None)
