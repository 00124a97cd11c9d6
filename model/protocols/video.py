"""DAVIS 2017, semi-supervised: objects of the first frame followed through a video; J, F and their mean.

As in the authors' tool for videos, what was found on a frame is an example for those that come after. Objects are
segmented one by one; a pixel that several claim belongs to the one of the greatest probability.
"""

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from model import measures
from model.evaluation import IGNORED, THRESHOLD, EvaluationError, Progress, iou
from model.example import Context, Example, Mask, Picture
from model.protocols import files
from model.protocols.report import Measured, Report
from model.segmenter import Query, Segmenter


class Davis2017:
    """The validation videos at 480p."""

    SOURCE = (
        "A folder DAVIS holds ImageSets/2017/val.txt, JPEGImages/480p/ and Annotations/480p/ "
        "(davischallenge.org/davis2017/code.html, TrainVal, 480p)."
    )

    def __init__(self, folder: Path) -> None:
        """Look at a folder.

        Args:
            folder: `DAVIS`, see docs/protocols.md.

        Raises:
            EvaluationError: if something is missing; named, with where it is to be had.
        """
        self.folder = folder
        self.videos = tuple(files.lines(folder / "ImageSets" / "2017" / "val.txt", self.SOURCE))
        self._frames = {video: self._look(video) for video in self.videos}

    def _look(self, video: str) -> list[str]:
        folder = files.needed(self.folder / "JPEGImages" / "480p" / video, self.SOURCE)
        frames = sorted(path.stem for path in folder.glob("*.jpg"))
        if len(frames) < 3:  # the first is given, the last is not counted
            raise EvaluationError(
                f"{folder} has {len(frames)} frames (*.jpg), not at least three. {self.SOURCE}"
            )
        return frames

    def frames(self, video: str) -> Sequence[str]:
        """Names of a video's frames, in order."""
        return self._frames[video]

    def picture(self, video: str, frame: str) -> Picture:
        """A frame, `[H, W, 3]` uint8 RGB."""
        return files.picture(self.folder / "JPEGImages" / "480p" / video / f"{frame}.jpg", self.SOURCE)

    def objects(self, video: str, frame: str) -> files.Indices:
        """Which object each pixel belongs to, `[H, W]` uint8, 0 for none."""
        path = self.folder / "Annotations" / "480p" / video / f"{frame}.png"
        indices = files.indices(path, self.SOURCE)
        return np.where(indices == IGNORED, np.uint8(0), indices)


def evaluate_video(
    source: Davis2017,
    segmenter: Segmenter,
    examples: Sequence[int] = (8,),
    at_most: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Evaluate a segmenter on videos.

    J and F of an object are means over the frames between the first, which is given, and the last; the figures are means
    over all objects of all videos.

    Args:
        source: the videos.
        segmenter: what to evaluate.
        examples: numbers of examples of a frame, each at least 1: the first frame, and the frames before it.
        at_most: so many videos, for a quick look; None for all.
        progress: called with (frames done, frames in all), first with 0 done.

    Raises:
        EvaluationError: if something is missing.
    """
    if not examples or min(examples) < 1:
        raise EvaluationError(f"shots must be numbers from 1 on, not {list(examples)}")
    if at_most is not None and at_most < 1:
        raise EvaluationError(f"there must be at least one video, not {at_most}")
    videos = source.videos[:at_most]
    frames = sum(len(source.frames(video)) - 2 for video in videos)
    total, done = frames * len(dict.fromkeys(examples)), 0
    report = progress or (lambda done, total: None)
    report(0, total)
    rows = []
    for count in dict.fromkeys(examples):
        followed = []
        for video in videos:
            object_of = _Followed(source, video, count)
            for frame in source.frames(video)[1:-1]:
                object_of.follow(frame, segmenter)
                done += 1
                report(done, total)
            followed.append(object_of)
        rows.append(_row(count, followed))
    short = len(videos) < len(source.videos)
    said = f"The first {len(videos)} videos only: not comparable with published figures."
    return Report("davis2017", segmenter.identity, tuple(rows), (said,) if short else ())


class _Followed:
    """The objects of one video: what was found of them, and how good it was."""

    def __init__(self, source: Davis2017, video: str, examples: int) -> None:
        self._source, self._video = source, video
        first = source.frames(video)[0]
        shown, given = source.picture(video, first), source.objects(video, first)
        files.same_size(shown, given, Path(video) / first)
        self._numbers = range(1, int(given.max()) + 1)
        if not self._numbers:
            raise EvaluationError(f"{video}: the mask of the first frame, {first}, shows no object")
        self._given = {
            number: self._example(first, shown, given == number, number) for number in self._numbers
        }
        self._found: dict[int, deque[Example]] = {
            number: deque(maxlen=examples - 1) for number in self._numbers
        }
        self.j: dict[int, list[float]] = {number: [] for number in self._numbers}
        self.f: dict[int, list[float]] = {number: [] for number in self._numbers}
        self.seconds = 0.0

    def _example(self, frame: str, shown: Picture, mask: Mask, number: int) -> Example:
        return Example(f"{self._video}/{frame}/{number}", shown, mask)

    def follow(self, frame: str, segmenter: Segmenter) -> None:
        """Find the objects on the next frame and compare."""
        shown, wanted = (
            self._source.picture(self._video, frame),
            self._source.objects(self._video, frame),
        )
        files.same_size(shown, wanted, Path(self._video) / frame)
        started = time.perf_counter()
        contexts = [Context((self._given[number], *self._found[number])) for number in self._numbers]
        maps = segmenter.maps([Query(shown, context, "instance") for context in contexts])
        masks = _parted([found.mask(THRESHOLD) for found in maps], [found.whole() for found in maps])
        self.seconds += time.perf_counter() - started
        for number, mask in zip(self._numbers, masks, strict=True):
            self.j[number].append(iou(mask, wanted == number))
            self.f[number].append(measures.boundary_f(mask, wanted == number))
            self._found[number].append(self._example(frame, shown, mask, number))


def _parted(masks: Sequence[Mask], probabilities: Sequence[NDArray[np.float32]]) -> list[Mask]:
    """Give each pixel to one mask at most: the one of the greatest probability among those that claim it."""
    claims = np.stack([np.where(mask, found, -1) for mask, found in zip(masks, probabilities, strict=True)])
    best = claims.argmax(axis=0)
    return [mask & (best == place) for place, mask in enumerate(masks)]


def _row(examples: int, followed: Sequence[_Followed]) -> Measured:
    j = fmean(fmean(values) for video in followed for values in video.j.values())
    f = fmean(fmean(values) for video in followed for values in video.f.values())
    queries = sum(len(values) for video in followed for values in video.j.values())
    seconds = sum(video.seconds for video in followed) / queries
    return Measured("all", examples, {"j_and_f": (j + f) / 2, "j": j, "f": f}, queries, seconds)
