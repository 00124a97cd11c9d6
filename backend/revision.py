"""Revision: the schedule on which `model_version` moves, and the snapshot that one request works on.

Freshness and revision are two things. An approval is used by the very next prediction, whatever the version; the
revision, which makes Label Studio ask again for tasks that it has a prediction for, moves when asking again pays.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from backend.errors import LabelConfigError
from backend.label_config import LabelConfig, Target, parse
from backend.store import ExampleInfo, Store

_OURS = re.compile(r"seggpt-.+-r[0-9]+")


def pays_at(approvals: int) -> bool:
    """Whether the approval of this number (from 1) moves the revision: 1, 2, 3, 5, 8, 13, 21 and so on."""
    low, high = 1, 2
    while low < approvals:
        low, high = high, low + high
    return approvals == low


def name(checkpoint: str, generation: int) -> str:
    """`model_version` of a project: the same from every process and after every restart."""
    return f"seggpt-{checkpoint}-r{generation}"


def is_ours(model_version: object) -> bool:
    """Whether a stored prediction's `model_version` has the form that `name` gives."""
    return isinstance(model_version, str) and _OURS.fullmatch(model_version) is not None


@dataclass(frozen=True)
class Snapshot:
    """What one request works on from beginning to end.

    Attributes:
        project: project key, "" for a request that names none.
        revision: its `model_version`.
        config: targets of the project.
        pool: examples of every target that has any, by target id, oldest approval first.
    """

    project: str
    revision: str
    config: LabelConfig
    pool: dict[str, tuple[ExampleInfo, ...]]

    @property
    def ready(self) -> tuple[Target, ...]:
        """Targets of which something has been approved."""
        return tuple(target for target in self.config.targets if self.pool.get(target.id))


def take(store: Store, project: str, checkpoint: str) -> Snapshot:
    """The project's snapshot now; without examples where the project is unknown or its config is unreadable."""
    record = store.project(project) if project else None
    if record is None:
        return Snapshot(project, name(checkpoint, 0), LabelConfig(targets=()), {})
    try:
        config = parse(record.label_config)
    except LabelConfigError:
        config = LabelConfig(targets=())
    return Snapshot(project, name(checkpoint, record.generation), config, _by_target(store.pool(project)))


def _by_target(pool: Sequence[ExampleInfo]) -> dict[str, tuple[ExampleInfo, ...]]:
    grouped: dict[str, list[ExampleInfo]] = {}
    for info in pool:
        grouped.setdefault(info.target, []).append(info)
    return {target: tuple(infos) for target, infos in grouped.items()}
