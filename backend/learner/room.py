"""Approvals that a pool with room lacks: full, it took no notice of their images, or let their examples leave."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from backend import dropped
from backend.label_config import Target
from backend.learner.annotations import says
from backend.protocol import as_list
from backend.store import Approval, ExampleInfo, Store

SECONDS = 30.0
"""After which a pass takes up no more; the next one goes on."""

Group = tuple[str, str, object]


def take_up(
    store: Store,
    project: str,
    targets: Iterable[Target],
    exported: Iterable[Mapping[str, Any]],
    size: int,
    read: Callable[[Mapping[str, Any], Mapping[str, Any], Collection[str]], None],
) -> None:
    """Have approvals read whose examples pools lack, as long as there is room and time.

    What somebody took out of use stays out. Nor does anything older come in its place that is of the same person, day
    or label, where nothing of those was left in use: it was taken out for what these have in common.

    Args:
        store: where pools and approvals are.
        project: project key.
        targets: of the labeling config.
        exported: Label Studio's tasks with their annotations; the first are taken first.
        size: how many examples a pool may hold.
        read: called with a task, its annotation and the ids of the targets that lack it.
    """
    known = {target.id: target for target in targets}
    pool = store.pool(project)
    if not _open(pool, known, size) or not dropped.remembers_all(store, project):
        return
    approvals = {approval.annotation: approval for approval in store.approvals(project)}
    closed = _taken_out(store, project, pool, approvals)
    until = time.monotonic() + SECONDS
    for task in exported:
        for annotation in as_list(task.get("annotations")):
            approval = approvals.get(annotation.get("id", 0))
            if approval is None:
                continue
            lacking = {
                name
                for name, there in _open(pool, known, size).items()
                if approval.annotation not in there
                and closed.isdisjoint(_groups(name, approval))
                and says(annotation, known[name])
            }
            if not lacking:
                continue
            if time.monotonic() > until:
                return
            read(task, annotation, lacking)
            pool = store.pool(project)


def _open(pool: Iterable[ExampleInfo], targets: Collection[str], size: int) -> dict[str, set[int]]:
    """The annotations that are in pools with room, by target id."""
    there: dict[str, set[int]] = {name: set() for name in targets}
    for info in pool:
        if info.target in there:
            there[info.target].add(info.annotation)
    return {name: annotations for name, annotations in there.items() if len(annotations) < size}


def _taken_out(
    store: Store, project: str, pool: Iterable[ExampleInfo], approvals: Mapping[int, Approval]
) -> set[Group]:
    """Persons, days and labels of which examples were taken out of use, and none is in use."""
    out = {
        group
        for one in dropped.listed(store, project, pool)
        for group in _groups(one.target, approvals[one.annotation])
    }
    return out - {group for info in pool for group in _groups(info.target, info)}


def _groups(target: str, of: Approval | ExampleInfo) -> set[Group]:
    return {(target, "", None), (target, "person", of.annotator), (target, "day", of.at[:10])}
