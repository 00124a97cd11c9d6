"""What leave-one-out tells of a project's pools: which masks harm the others, what each is worth to them, and how far
scores are to be believed; knows no queue."""

import time
from collections.abc import Callable, Sequence

from backend import revision, unpacking
from backend.calibrations import read_calibrations, write_calibrations
from backend.errors import NotFound
from backend.findings import Finding, Findings, read_findings, write_findings
from backend.prompts.tunings import usable
from backend.settings import Settings
from backend.store import ExampleInfo, Store
from model import poison, score
from model.example import Example
from model.segmenter import Segmenter

NEWEST_KEPT = 20  # kept IoUs of a target that set the level of its scores


class Alarm:
    """Measures pools and remembers the findings."""

    def __init__(self, store: Store, segmenter: Segmenter, settings: Settings) -> None:
        self._store = store
        self._segmenter = segmenter
        self._settings = settings

    def is_due(self, project: str) -> bool:
        """Whether the pools hold other examples than those that were measured last, or the checkpoint is another."""
        there = {info.key for pool in self._pools(project) for info in pool}
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
        pools = self._pools(project)
        total, done = sum(map(len, pools)), 0
        kept = self._store.kept(project)
        found, curves = dict[str, Finding](), dict[str, score.Calibration]()
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
            lately = [one.iou for one in kept if one.target == pool[0].target][-NEWEST_KEPT:]
            worth = [influence.finds for influence in influences]
            curves[pool[0].target] = self._calibration(examples, worth, lately, report)
            done += len(pool)
        self._store.score_examples({key: finding.finds for key, finding in found.items()})
        write_calibrations(self._store, project, self._segmenter.identity, curves)
        measured = frozenset(info.key for pool in pools for info in pool)
        findings = Findings(time.time(), measured, found)
        write_findings(self._store, project, findings)
        return findings

    def _calibration(
        self,
        examples: Sequence[Example],
        worth: Sequence[float],
        kept: Sequence[float],
        report: Callable[[int, int], None],
    ) -> score.Calibration:
        """By leave-one-out in a pool that was examined already, and by what annotators kept lately."""
        seen = score.rehearse(
            examples,
            self._segmenter,
            self._settings.shots,
            worth,
            self._settings.threshold,
            progress=lambda _, parts: report(parts, parts),
        )
        return score.calibrate([raw for raw, _ in seen], [true for _, true in seen], kept)

    def findings(self, project: str) -> Findings:
        """What was measured last."""
        return read_findings(self._store, project)

    def _pools(self, project: str) -> list[list[ExampleInfo]]:
        snapshot = revision.take(self._store, project, self._segmenter.identity)
        pools = [usable(pool) for pool in snapshot.pool.values()]
        return [pool for pool in pools if len(pool) > 1]
