"""DAVIS 2017: objects followed through tiny videos, J and F worked out by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model import measures
from model.edges import ProbabilityMap
from model.evaluation import EvaluationError
from model.protocols import Davis2017, evaluate_video
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter
from tests.model.protocol_trees import SIDE, Block, davis, inside
from tests.model.test_evaluation import RedReader

LEFT: Block = (0, 0, SIDE, 16)
RIGHT: Block = (0, 48, SIDE, SIDE)
MIDDLE: Block = (16, 16, 48, 48)
GONE: Block = (0, 0, 0, 0)


@pytest.fixture
def red(small_model: SegGPT) -> RedReader:
    return RedReader(small_model)


class Follower(Segmenter):
    """Finds on every frame what the newest example shows, each object a little less surely than the one before."""

    def __init__(self, model: SegGPT) -> None:
        super().__init__(model, name="follower")
        self.asked: list[Query] = []

    def maps(self, queries: Sequence[Query]) -> list[ProbabilityMap]:
        self.asked += queries
        found = []
        for place, query in enumerate(queries):
            sure = np.float32(0.9 - 0.1 * place)
            values = np.where(query.context.examples[-1].mask, sure, np.float32(0.1))
            found.append(ProbabilityMap(values, values.shape[0], values.shape[1]))
        return found


@pytest.fixture
def follower(small_model: SegGPT) -> Follower:
    return Follower(small_model)


def test_the_first_frame_is_given_and_first_and_last_are_not_counted(tmp_path: Path, red: RedReader) -> None:
    """Red is found: right on the second and third frame. The last would be wrong, and the first too."""
    frames = [{1: MIDDLE}, {1: LEFT}, {1: RIGHT}, {1: MIDDLE}]
    source = Davis2017(davis(tmp_path, {"swan": frames}))
    report = evaluate_video(source, red, [1])
    (row,) = report.rows
    assert dict(row.figures) == {"j_and_f": 1, "j": 1, "f": 1}
    assert (row.part, row.examples, row.queries) == ("all", 1, 2)
    assert [context.examples[0].mask.sum() for context in red.asked] == [32 * 32] * 2
    assert report.notes == ()


def test_j_and_f_are_means_over_an_object_s_frames_and_then_over_all_objects(
    tmp_path: Path, follower: Follower
) -> None:
    """What is found never moves. Object 1 stays on one of two frames and object 2 on both; in the other video the object
    stays for one of four. J is (0.5 + 1 + 0.25) / 3, whatever the videos' lengths and numbers of objects are."""
    first = [{1: LEFT, 2: RIGHT}, {1: LEFT, 2: RIGHT}, {1: MIDDLE, 2: RIGHT}, {1: LEFT, 2: RIGHT}]
    second = [{1: LEFT}, {1: LEFT}, *([{1: RIGHT}] * 3), {1: LEFT}]
    source = Davis2017(davis(tmp_path, {"two": first, "one": second}))
    (row,) = evaluate_video(source, follower, [1]).rows
    f_moved = measures.boundary_f(inside(LEFT), inside(MIDDLE))
    f_far = measures.boundary_f(inside(LEFT), inside(RIGHT))
    f = ((1 + f_moved) / 2 + 1 + (1 + 3 * f_far) / 4) / 3
    assert row.figures["j"] == pytest.approx((0.5 + 1 + 0.25) / 3)
    assert row.figures["f"] == pytest.approx(f)
    assert row.figures["j_and_f"] == pytest.approx((row.figures["j"] + row.figures["f"]) / 2)
    assert row.queries == 4 + 4


def test_an_object_that_is_gone_is_right_where_nothing_is_found(tmp_path: Path, red: RedReader) -> None:
    frames = [{1: LEFT}, {1: GONE}, {1: LEFT}]
    (row,) = evaluate_video(Davis2017(davis(tmp_path, {"swan": frames})), red, [1]).rows
    assert row.figures["j"] == row.figures["f"] == 1


def test_examples_are_the_first_frame_and_those_just_before(tmp_path: Path, red: RedReader) -> None:
    """What was found is the example, not what is known."""
    places = [(0, 16 * step, 16, 16 * step + 16) for step in range(4)]
    frames = [{1: place} for place in [*places, places[0], places[1]]]
    evaluate_video(Davis2017(davis(tmp_path, {"swan": frames})), red, [3])
    shown = [[int(np.flatnonzero(e.mask[0])[0]) // 16 for e in context.examples] for context in red.asked]
    assert shown == [[0], [0, 1], [0, 1, 2], [0, 2, 3]]


def test_a_pixel_that_two_objects_claim_belongs_to_the_surer_one(tmp_path: Path, red: RedReader) -> None:
    """Both objects are red, so each claims both; equally sure, the first has all of it."""
    frames = [{1: LEFT, 2: RIGHT}] * 3
    (row,) = evaluate_video(Davis2017(davis(tmp_path, {"two": frames})), red, [1]).rows
    assert row.figures["j"] == pytest.approx((0.5 + 0) / 2)


def test_objects_are_asked_for_as_instances(tmp_path: Path, follower: Follower) -> None:
    source = Davis2017(davis(tmp_path, {"two": [{1: LEFT, 2: RIGHT}] * 3}))
    evaluate_video(source, follower, [1])
    assert [query.kind for query in follower.asked] == ["instance"] * 2


def test_numbers_of_examples_are_measured_apart_and_progress_goes_to_all(
    tmp_path: Path, red: RedReader
) -> None:
    calls: list[tuple[int, int]] = []
    source = Davis2017(davis(tmp_path, {"a": [{1: LEFT}] * 4, "b": [{1: LEFT}] * 3}))
    report = evaluate_video(source, red, [1, 2], progress=lambda done, total: calls.append((done, total)))
    assert [row.examples for row in report.rows] == [1, 2]
    assert calls == [(done, 6) for done in range(7)]


def test_a_quick_look_says_that_it_is_one(tmp_path: Path, red: RedReader) -> None:
    source = Davis2017(davis(tmp_path, {"a": [{1: LEFT}] * 4, "b": [{1: LEFT}] * 3}))
    report = evaluate_video(source, red, [1], at_most=1)
    assert report.rows[0].queries == 2
    assert "first 1 videos only: not comparable" in report.notes[0]


def test_pixels_that_are_void_belong_to_no_object(tmp_path: Path) -> None:
    source = Davis2017(davis(tmp_path, {"a": [{1: LEFT, 255: RIGHT}] * 3}))
    assert set(np.unique(source.objects("a", "00000")).tolist()) == {0, 1}


def test_a_real_segmenter_is_evaluated_alike_twice(tmp_path: Path, segmenter: Segmenter) -> None:
    source = Davis2017(davis(tmp_path, {"a": [{1: LEFT, 2: MIDDLE}] * 4}))
    first, second = (evaluate_video(source, segmenter, [2]) for _ in range(2))
    assert first.rows[0].figures == second.rows[0].figures


@pytest.mark.parametrize(
    "missing",
    [
        "ImageSets/2017/val.txt",
        "JPEGImages/480p/a",
        "Annotations/480p/a/00000.png",
        "Annotations/480p/a/00001.png",
    ],
)
def test_what_davis_lacks_is_named_with_its_source(tmp_path: Path, red: RedReader, missing: str) -> None:
    path = davis(tmp_path / "DAVIS", {"a": [{1: LEFT}] * 3}) / missing
    path.rename(path.with_name("moved"))
    with pytest.raises(EvaluationError, match=f"{missing} is missing.*davischallenge.org"):
        evaluate_video(Davis2017(tmp_path / "DAVIS"), red)


def test_videos_and_questions_without_sense_are_told(tmp_path: Path, red: RedReader) -> None:
    with pytest.raises(EvaluationError, match="has 2 frames"):
        Davis2017(davis(tmp_path / "short", {"a": [{1: LEFT}] * 2}))
    with pytest.raises(EvaluationError, match="a: the mask of the first frame, 00000, shows no object"):
        evaluate_video(Davis2017(davis(tmp_path / "none", {"a": [{1: GONE}] * 3})), red)
    source = Davis2017(davis(tmp_path / "DAVIS", {"a": [{1: LEFT}] * 3}))
    with pytest.raises(EvaluationError, match="shots"):
        evaluate_video(source, red, [0])
    with pytest.raises(EvaluationError, match="at least one video"):
        evaluate_video(source, red, at_most=0)
