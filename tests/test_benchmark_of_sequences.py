"""`benchmarks/sequences.py` on a small network whose masks mean nothing: what it counts, and of what."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.sequences import Place
from benchmarks import sequences as bench
from model.evaluation import Folder
from model.segmenter import Segmenter
from tests.backend.stage import write_random_checkpoint


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter.load(
        write_random_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors"), "cpu"
    )


def test_drawn_frames_move_and_come_again(segmenter: Segmenter) -> None:
    kind = np.array([200.0, 60, 60])
    frames = bench.drawn("a", 3, [0, 1, 20], kind)
    again = bench.drawn("a", 3, [0, 1, 20], kind)
    assert all((one.picture == other.picture).all() for one, other in zip(frames, again, strict=True))
    overlaps = [np.count_nonzero(frames[0].mask & one.mask) for one in frames]
    assert overlaps[0] > overlaps[1] > 0
    assert overlaps[1] > overlaps[2]
    approved, new = bench.measure_drawn(1, segmenter, shots=2)
    assert (approved.situation, approved.frames, new.situation, new.frames) == (
        "approved", 12, "none approved", 6,
    )  # fmt: skip
    assert all(0 <= figure <= 1 for one in (approved, new) for figure in (one.without, one.with_it))


def test_a_folder_s_frames_are_told_by_their_names(tmp_path: Path, segmenter: Segmenter) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for clip in ("a_", "b_"):
        for frame in bench.drawn(clip, ord(clip[0]), range(5), np.zeros(3)):
            stem = f"{clip}{int(frame.number):04d}"
            Image.fromarray(frame.picture).save(tmp_path / "images" / f"{stem}.png")
            Image.fromarray(frame.mask.astype(np.uint8)).save(tmp_path / "masks" / f"{stem}.png")
    folder = Folder(tmp_path)
    ((label, stems),) = folder.classes().items()
    places = [frame.place for frame in bench.in_folder(folder, label, [*stems, "unnumbered"])]
    assert [(place.sequence, place.frame) for place in places] == [
        (clip, float(number)) for clip in ("a_", "b_") for number in range(5)
    ]
    blank, nothing = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.bool_)
    numbers = (9, 1, 5, 40, 6)
    spread = [bench.Frame(Place("a", number), blank, nothing, nothing) for number in numbers]
    assert [frame.number for frame in bench.densest(spread, 2)] == [5, 6]
    assert [frame.number for frame in bench.densest(spread, 9)] == [1, 5, 6, 9, 40]
    rows = list(bench.measure_folder(folder, segmenter, shots=2, classes=9, at_most=3))
    assert [(one.situation, one.frames) for one in rows] == [("approved", 3), ("none approved", 6)]
