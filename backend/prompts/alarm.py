"""The poison alarm: which approved masks harm the others, measured by leave-one-out; knows no queue."""

import time
from collections.abc import Callable

from backend import revision, unpacking
from backend.errors import NotFound
from backend.findings import Finding, Findings, read_findings, write_findings
from backend.prompts.tunings import usable
from backend.store import ExampleInfo, Store
from model import poison
from model.segmenter import Segmenter


class Alarm:
    """Measures pools and remembers the findings."""

    def __init__(self, store: Store, segmenter: Segmenter) -> None:
        self._store = store
        self._segmenter = segmenter

    def is_due(self, project: str) -> bool:
        """Whether the pools hold other examples than those that were measured last."""
        there = {info.key for pool in self._pools(project) for info in pool}
        return bool(there) and there != self.findings(project).measured

    def measure(self, project: str, progress: Callable[[int, int], None] | None = None) -> Findings:
        """Measure every target's pool anew and keep the findings.

        Args:
            project: project key.
            progress: called with (examples done, examples in all); whatever it raises ends the measuring.

        Raises:
            NotFound: if the project is unknown.
        """
        if self._store.project(project) is None:
            raise NotFound(f"Project {project} has never been seen.")
        pools = self._pools(project)
        total, done, found = sum(map(len, pools)), 0, dict[str, Finding]()
        for pool in pools:
            stored = self._store.examples([info.key for info in pool])
            examples = [unpacking.example(one) for one in stored.values()]

            def report(part: int, parts: int, before: int = done, size: int = len(pool)) -> None:
                if progress is not None:
                    progress(before + size * part // max(parts, 1), total)

            for influence in poison.examine(examples, self._segmenter, progress=report):
                found[influence.key] = Finding(
                    **{name: getattr(influence, name) for name in Finding.__dataclass_fields__}
                )
            done += len(pool)
        measured = frozenset(info.key for pool in pools for info in pool)
        findings = Findings(time.time(), measured, found)
        write_findings(self._store, project, findings)
        return findings

    def findings(self, project: str) -> Findings:
        """What was measured last."""
        return read_findings(self._store, project)

    def _pools(self, project: str) -> list[list[ExampleInfo]]:
        snapshot = revision.take(self._store, project, self._segmenter.identity)
        pools = [usable(pool) for pool in snapshot.pool.values()]
        return [pool for pool in pools if len(pool) > 1]
