"""The poison alarm: which approved masks harm the others, measured by leave-one-out; knows no queue."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from backend import revision
from backend.errors import NotFound
from backend.prompts.tunings import usable
from backend.store import ExampleInfo, Store
from backend.store.pictures import unpack_image, unpack_mask
from model import poison
from model.example import Example
from model.segmenter import Segmenter


@dataclass(frozen=True)
class Finding:
    """What was measured of one example.

    Attributes:
        found: mean IoU with which each of the others alone finds its mask, 0 to 1.
        finds: mean IoU with which it alone finds the others' masks, 0 to 1.
        agrees: mean IoU between what it finds on the others' pictures and what the rest finds there, 0 to 1.
        suspicious: whether its task should be looked at again.
        reason: why, a sentence; "" where it is not suspicious.
    """

    found: float
    finds: float
    agrees: float
    suspicious: bool
    reason: str


@dataclass(frozen=True)
class Findings:
    """What was measured of a project's examples.

    Attributes:
        at: Unix time; None where it has never been measured.
        measured: keys of the examples that were looked at.
        by_key: by example key; an example that came later, or whose target has too few, has none.
    """

    at: float | None
    measured: frozenset[str]
    by_key: dict[str, Finding]


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
            examples = [
                Example(key, unpack_image(one.image), unpack_mask(one.mask)) for key, one in stored.items()
            ]

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
        kept = {
            "at": findings.at,
            "measured": sorted(measured),
            "by_key": {key: asdict(one) for key, one in found.items()},
        }
        self._store.set_note(f"alarm:{project}", json.dumps(kept))
        return findings

    def findings(self, project: str) -> Findings:
        """What was measured last."""
        return read_findings(self._store, project)

    def _pools(self, project: str) -> list[list[ExampleInfo]]:
        snapshot = revision.take(self._store, project, self._segmenter.identity)
        pools = [usable(pool) for pool in snapshot.pool.values()]
        return [pool for pool in pools if len(pool) > 1]


def read_findings(store: Store, project: str) -> Findings:
    """What was measured last of a project's examples, for whoever has no segmenter at hand."""
    kept = json.loads(store.note(f"alarm:{project}") or '{"at": null, "measured": [], "by_key": {}}')
    return Findings(
        kept["at"], frozenset(kept["measured"]), {key: Finding(**one) for key, one in kept["by_key"].items()}
    )
