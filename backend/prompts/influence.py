"""Whose influence may be taken back: a person's, a day's or a label's examples chosen, weighed, and taken out as one.

Weighing asks whether the others would do better without them: each example that stays is found by all others, and by
those alone that stay, as a task would be. It is done by a worker, and what it found is kept for people to look at.
"""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from statistics import fmean
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from backend import dropped, pins, sequences, unpacking
from backend.errors import NotFound, Refused
from backend.protocol import parse_time
from backend.settings import Settings
from backend.store import ExampleInfo, Store
from backend.store.leases import held
from model.evaluation import iou
from model.example import Context, Example
from model.segmenter import Query, Segmenter

By = Literal["person", "day", "label"]
"""Examples of one user, of one day (UTC), or of one target."""

UNKNOWN = "unknown"
"""The person, where Label Studio did not say who it was."""

AT_MOST = 64  # of those that stay in a pool, this many are predicted: a larger pool costs no more
_AT_ONCE = 8  # pictures segmented between two looks whether to go on


@dataclass(frozen=True)
class Source:
    """Somebody or something that examples came from.

    Attributes:
        by: what it is.
        what: the user's number or `UNKNOWN`, the day as YYYY-MM-DD, or the target id.
        examples: how many it has in the pools.
    """

    by: By
    what: str
    examples: int


@dataclass(frozen=True)
class Weighed:
    """What a pool would be without some of its examples.

    Attributes:
        target: target id.
        going: how many would go.
        staying: how many would stay.
        pictures: how many of those that stay were predicted, each by others; 0 where too few stay to say.
        before: mean IoU, 0 to 1, of these by all others; None where it was not measured.
        after: the same, by those alone that stay.
    """

    target: str
    going: int
    staying: int
    pictures: int = 0
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class Preview:
    """What taking a source's examples out of use would do.

    Attributes:
        id: names it.
        by: as `Source`.
        what: as `Source`.
        keys: of the examples that would go; what came later is not among them.
        asked: Unix time.
        weighed: when its figures were worked out, Unix time; None: they are not yet.
        pools: for each target that would lose some.
    """

    id: str
    by: By
    what: str
    keys: tuple[str, ...]
    asked: float
    weighed: float | None
    pools: tuple[Weighed, ...]


class Influence:
    """Chooses, weighs and takes out."""

    def __init__(self, store: Store, segmenter: Segmenter, settings: Settings) -> None:
        self._store = store
        self._segmenter = segmenter
        self._settings = settings

    def sources(self, project: str) -> list[Source]:
        """What the project's examples came from, those with most examples first, days by date."""
        pool = self._store.pool(project)
        found = []
        for by in get_args(By):
            counts: dict[str, int] = {}
            for info in pool:
                counts[_source(info, by)] = counts.get(_source(info, by), 0) + 1
            order = (
                sorted(counts, reverse=True)
                if by == "day"
                else sorted(counts, key=lambda what: (-counts[what], what))
            )
            found += [Source(by, what, counts[what]) for what in order if what]
        return found

    def ask(self, project: str, by: By, what: str) -> Preview:
        """Begin a preview in place of the project's last one; its figures are worked out by `weigh`.

        Raises:
            NotFound: if no example came from there.
        """
        pool = self._store.pool(project)
        going = {info.key for info in pool if what and _source(info, by) == what}
        if not going:
            raise NotFound(f"No example in use is of the {by} '{what}'.")
        targets = dict.fromkeys(info.target for info in pool if info.key in going)
        pools = tuple(_counted(pool, target, going) for target in targets)
        preview = Preview(uuid.uuid4().hex[:12], by, what, tuple(sorted(going)), time.time(), None, pools)
        with self._changing(project):
            self._write(project, preview)
        return preview

    def preview(self, project: str) -> Preview | None:
        """The project's last preview; None where there is none, or it was taken out or put away."""
        note = self._store.note(_name(project))
        if not note:
            return None
        kept = json.loads(note)
        pools = tuple(Weighed(**one) for one in kept.pop("pools"))
        return Preview(**{**kept, "keys": tuple(kept["keys"]), "pools": pools})

    def put_away(self, project: str) -> None:
        """Forget the preview."""
        with self._changing(project):
            self._forget(project)

    def _forget(self, project: str) -> None:
        self._store.set_note(_name(project), "")

    def take_out(self, project: str, preview: str, *, unweighed: bool = False) -> list[dropped.Dropped]:
        """Take the examples of a preview out of use as one act, see `dropped`; the revision moves.

        Raises:
            NotFound: if it is not the project's preview, or nothing of it is left.
            Refused: if its figures are not there yet, unless `unweighed` says that they are not wanted.
        """
        with self._changing(project):
            found = self.preview(project)
            if found is None or found.id != preview:
                raise NotFound("This preview is not there any more; make another one.")
            if found.weighed is None and not unweighed:
                raise Refused("Its figures are not worked out yet; wait for the worker.")
            gone = dropped.drop(self._store, project, found.keys, f"{found.by} {found.what}")
            self._forget(project)
        return gone

    def weigh(self, project: str, go_on: Callable[[int, int], None]) -> None:
        """Work out the figures of the project's preview, where it waits for them.

        Args:
            project: project key.
            go_on: called with (pictures done, pictures in all) now and then; whatever it raises ends the work.
        """
        preview = self.preview(project)
        if preview is None or preview.weighed is not None:
            return
        pools = tuple(self._weighed(project, one, set(preview.keys), go_on) for one in preview.pools)
        with self._changing(project):
            now = self.preview(project)
            is_wanted = (
                now is not None and now.id == preview.id
            )  # not put away, nor another asked for, meanwhile
            if is_wanted:
                self._write(project, replace(preview, weighed=time.time(), pools=pools))

    def _changing(self, project: str) -> AbstractContextManager[None]:
        busy = "Somebody else previews or takes out examples at this moment; try again."
        return held(self._store, f"changing:{_name(project)}", busy)

    def _weighed(
        self, project: str, asked: Weighed, going: set[str], go_on: Callable[[int, int], None]
    ) -> Weighed:
        pool = pins.best_of_tasks(self._store.pool(project, asked.target))
        stays = [place for place, info in enumerate(pool) if info.key not in going]
        if len(stays) < 2:
            return asked
        judged = stays[:: -(-len(stays) // AT_MOST)]
        stored = self._store.examples([info.key for info in pool])
        examples = [unpacking.example(stored[info.key]) for info in pool if info.key in stored]
        if len(examples) < len(pool):  # some were withdrawn just now
            return asked
        described = np.stack([self._segmenter.describe(example.image) for example in examples])
        everyone = list(range(len(pool)))
        found = []
        for number, among in enumerate((everyone, stays)):
            contexts = [self._context(pool, examples, described, place, among) for place in judged]
            done, total = number * len(judged), 2 * len(judged)
            found.append(self._found([examples[place] for place in judged], contexts, done, total, go_on))
        return replace(asked, pictures=len(judged), before=found[0], after=found[1])

    def _context(
        self,
        pool: Sequence[ExampleInfo],
        examples: Sequence[Example],
        described: NDArray[np.float32],
        place: int,
        among: Sequence[int],
    ) -> Context:
        others = [pool[other] for other in among if other != place]
        frame, shots = sequences.of_example(pool[place], self._settings), self._settings.shots
        near, rest, free = sequences.near_first(frame, others, shots, shots)
        row = {info.key: number for number, info in enumerate(pool)}
        picked = pins.choose(described[place], described[[row[info.key] for info in rest]], rest, free)
        chosen = [*near, *(rest[index] for index in picked)]
        return Context(tuple(examples[row[info.key]] for info in chosen))

    def _found(
        self,
        examples: Sequence[Example],
        contexts: Sequence[Context],
        done: int,
        total: int,
        go_on: Callable[[int, int], None],
    ) -> float:
        """Mean IoU of examples, each by its context."""
        ious = []
        for start in range(0, len(examples), _AT_ONCE):
            part = range(start, min(start + _AT_ONCE, len(examples)))
            maps = self._segmenter.maps([Query(examples[index].image, contexts[index]) for index in part])
            ious += [
                iou(found.mask(self._settings.threshold), examples[index].mask)
                for index, found in zip(part, maps, strict=True)
            ]
            go_on(done + part.stop, total)
        return fmean(ious)

    def _write(self, project: str, preview: Preview) -> None:
        self._store.set_note(_name(project), json.dumps(asdict(preview)))


def _source(info: ExampleInfo, by: By) -> str:
    """Where an example came from; "" where that is not known."""
    if by == "person":
        return UNKNOWN if info.annotator is None else str(info.annotator)
    if by == "label":
        return info.target
    seconds = parse_time(info.at)
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _counted(pool: Sequence[ExampleInfo], target: str, going: set[str]) -> Weighed:
    there = [info.key in going for info in pool if info.target == target]
    return Weighed(target, sum(there), len(there) - sum(there))


def _name(project: str) -> str:
    return f"preview:{project}"
