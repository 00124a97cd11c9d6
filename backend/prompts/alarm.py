"""What leave-one-out tells of a project's pools: which masks harm the others, what each is worth to them, how far
scores are to be believed, and below which nothing is shown; knows no queue."""

import time
from collections.abc import Callable, Sequence

from backend import absent, revision, unpacking
from backend.calibrations import read_calibrations, write_calibrations
from backend.errors import NotFound
from backend.findings import Finding, Findings, read_findings, write_findings
from backend.prompts.tunings import usable
from backend.revision import Snapshot
from backend.settings import Settings
from backend.store import ExampleInfo, KeptIoU, Store
from model import poison, score, zoom
from model.example import Context, Example
from model.segmenter import Segmenter

NEWEST_KEPT = 20  # kept IoUs of a target that set the level of its scores
LACKING = 32  # pictures without a target that are predicted to see what is found on them, at most


class Alarm:
    """Measures pools and remembers the findings."""

    def __init__(self, store: Store, segmenter: Segmenter, settings: Settings) -> None:
        self._store = store
        self._segmenter = segmenter
        self._settings = settings

    def is_due(self, project: str) -> bool:
        """Whether the pools hold other examples than those that were measured last, or the checkpoint is another."""
        snapshot = revision.take(self._store, project, self._segmenter.identity)
        there = {info.key for pool in _measurable(snapshot) for info in pool}
        if there and read_calibrations(self._store, project, self._segmenter.identity) is None:
            return True
        return bool(there) and there != self.findings(project).measured

    def measure(self, project: str, progress: Callable[[int, int], None] | None = None) -> Findings:
        """Measure every target's pool anew; keep the findings, each example's worth, and the scores' calibrations.

        Args:
            project: project key.
            progress: called with (examples done, examples in all); whatever it raises ends the measuring.

        Raises:
            NotFound: if the project is unknown.
        """
        if self._store.project(project) is None:
            raise NotFound(f"Project {project} has never been seen.")
        snapshot = revision.take(self._store, project, self._segmenter.identity)
        pools = _measurable(snapshot)
        total, done = sum(map(len, pools)), 0
        found = dict[str, Finding]()
        curves, absences = dict[str, score.Calibration](), dict[str, score.Absence]()
        whole = set[str]()
        for pool in pools:
            stored = self._store.examples([info.key for info in pool])
            examples = [unpacking.example(one) for one in stored.values()]

            def report(part: int, parts: int, before: int = done, size: int = len(pool)) -> None:
                if progress is not None:
                    progress(before + size * part // max(parts, 1), total)

            influences = poison.examine(examples, self._segmenter, progress=report)
            for influence in influences:
                found[influence.key] = Finding(
                    **{name: getattr(influence, name) for name in Finding.__dataclass_fields__}
                )
            target, worth = pool[0].target, [influence.finds for influence in influences]
            seen, nearer = self._rehearsed(examples, worth, report)
            whole |= set() if nearer else {target}
            lately = self._of_masks(self._store.kept(project, target=target, newest=5 * NEWEST_KEPT))
            curves[target] = score.calibrate([raw for raw, _ in seen], [true for _, true in seen], lately)
            absences[target] = self._absence(snapshot, target, examples, worth, seen, report, nearer)
            done += len(pool)
        self._store.score_examples({key: finding.finds for key, finding in found.items()})
        write_calibrations(self._store, project, self._segmenter.identity, curves, absences, whole)
        measured = frozenset(info.key for pool in pools for info in pool)
        findings = Findings(time.time(), measured, found)
        write_findings(self._store, project, findings)
        return findings

    def _rehearsed(
        self, examples: Sequence[Example], worth: Sequence[float], report: Callable[[int, int], None]
    ) -> tuple[list[tuple[float, float]], bool]:
        """Raw figures and IoUs by leave-one-out in a pool that was examined already, and whether by nearer looks.

        Where objects are small, both ways are tried, and the one that pays is taken.
        """

        def rehearsed(nearer: bool) -> list[tuple[float, float]]:
            return score.rehearse(
                examples,
                self._segmenter,
                self._settings.shots,
                worth,
                self._settings.threshold,
                progress=lambda _, parts: report(parts, parts),
                nearer=nearer,
            )

        seen = rehearsed(False)
        small = zoom.wanted_by(self._segmenter, Context(tuple(examples))) >= zoom.WORTH
        if self._settings.zoom == "off" or not small:
            return seen, True
        near = rehearsed(True)
        if zoom.pays([true for _, true in seen], [true for _, true in near], len(examples)):
            return near, True
        return seen, False

    def _absence(
        self,
        snapshot: Snapshot,
        target: str,
        examples: Sequence[Example],
        worth: Sequence[float],
        seen: Sequence[tuple[float, float]],
        report: Callable[[int, int], None],
        nearer: bool,
    ) -> score.Absence:
        """When the target is taken not to be there: by what is found on approved pictures without it."""
        lacking, held = absent.split(self._store, snapshot, target)
        stored = self._store.examples([info.key for info in lacking[:LACKING]])
        if not stored:
            return score.Absence()
        found = score.rehearse_absent(
            [unpacking.example(one).image for one in stored.values()],
            examples,
            self._segmenter,
            self._settings.shots,
            worth,
            self._settings.threshold,
            progress=lambda _, parts: report(parts, parts),
            nearer=nearer and self._settings.zoom == "auto",
        )
        return score.absence(seen, found, len(found) / len(stored) * len(lacking) / held)

    def _of_masks(self, kept: Sequence[KeptIoU]) -> list[float]:
        """The newest kept IoUs where a mask was shown: that nothing was shown says nothing of masks' scores."""
        found: list[float] = []
        for one in reversed(kept):
            records = self._store.predictions(one.project, one.task)
            shown = [record for record in records if record.revision == one.revision]
            if all(one.target in record.masks for record in shown):
                found.insert(0, one.iou)
            if len(found) == NEWEST_KEPT:
                break
        return found

    def findings(self, project: str) -> Findings:
        """What was measured last."""
        return read_findings(self._store, project)


def _measurable(snapshot: Snapshot) -> list[list[ExampleInfo]]:
    """The pools in which leave-one-out leaves something."""
    pools = [usable(pool) for pool in snapshot.pool.values()]
    return [pool for pool in pools if len(pool) > 1]
