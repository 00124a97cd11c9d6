"""What the poison alarm found: as it is kept in the store; loads no torch."""

import json
from dataclasses import asdict, dataclass

from backend.store import Store


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


def write_findings(store: Store, project: str, findings: Findings) -> None:
    """Keep what was measured in place of what was measured before."""
    kept = {
        "at": findings.at,
        "measured": sorted(findings.measured),
        "by_key": {key: asdict(one) for key, one in findings.by_key.items()},
    }
    store.set_note(f"alarm:{project}", json.dumps(kept))


def read_findings(store: Store, project: str) -> Findings:
    """What was measured last of a project's examples, empty where nothing ever was."""
    kept = json.loads(store.note(f"alarm:{project}") or '{"at": null, "measured": [], "by_key": {}}')
    return Findings(
        kept["at"], frozenset(kept["measured"]), {key: Finding(**one) for key, one in kept["by_key"].items()}
    )
