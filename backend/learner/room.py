"""Approvals that a pool with room lacks: full, it took no notice of their images, or let their examples leave."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from backend import dropped
from backend.errors import Refused
from backend.label_config import LabelConfig
from backend.learner.annotations import says
from backend.lost_labels import LostLabels
from backend.protocol import as_list
from backend.reading_again import while_nothing_is_read
from backend.store import Approval, ExampleInfo, Store, StoredExample

SECONDS = 30.0
"""After which a pass takes up no more; the next one goes on."""

_Group = tuple[str, str, object]


@dataclass(frozen=True)
class Lack:
    """An approval that pools with room lack.

    Attributes:
        task: as Label Studio exports it.
        annotation: one of its annotations.
        targets: ids of the targets that lack it.
    """

    task: Mapping[str, Any]
    annotation: Mapping[str, Any]
    targets: Collection[str]


class Room:
    """The room in a project's pools.

    What somebody took out of use stays out. Nor does anything older come in its place that is of the same person, day
    or label, where nothing of those was left in use: it was taken out for what these have in common.

    Args:
        store: where pools and approvals are.
        project: project key.
        config: whose targets have pools.
        lost: the labels that it lost; what was moved lacks where it was moved to.
        size: how many examples a pool may hold.
    """

    def __init__(self, store: Store, project: str, config: LabelConfig, lost: LostLabels, size: int) -> None:
        self._store = store
        self._project = project
        self._targets = {target.id for target in config.targets}
        self._sources = (*config.targets, *lost.targets)
        self._lost = lost
        self._size = size

    def lacks(self, exported: Iterable[Mapping[str, Any]]) -> Iterator[Lack]:
        """Known approvals that pools lack, as long as there is room and time.

        Each is to be read and given to `join` before the next is asked for. Where time ran out the next pass goes on,
        and only after the last comes the first again: one that cannot be read holds up no other for ever.

        Args:
            exported: Label Studio's tasks with their annotations; the first come first.
        """
        pools = self._look()
        if not any(self._is_open(pools, name) for name in self._targets):
            return
        until = time.monotonic() + SECONDS
        approvals = {approval.annotation: approval for approval in self._store.approvals(self._project)}
        found = [
            (task, annotation, approvals[annotation["id"]])
            for task in exported
            for annotation in as_list(task.get("annotations"))
            if annotation.get("id") in approvals
        ]
        name = f"take-up:{self._project}"
        turn = self._store.note(name)
        first = next((n for n, one in enumerate(found) if str(one[2].annotation) == turn), 0)
        for task, annotation, approval in found[first:] + found[:first]:
            if time.monotonic() > until:
                self._store.set_note(name, str(approval.annotation))
                return
            lacking = self._lacking(pools, approval)
            if lacking and (lacking := lacking & self._said(annotation)):
                yield Lack(task, annotation, lacking)
                pools = self._look()
        if turn:
            self._store.set_note(name, "")

    def join(
        self, same: Approval, examples: Sequence[StoredExample], put: Callable[[list[StoredExample]], object]
    ) -> None:
        """Let an approval's examples join the pools that still lack them, unless something has changed meanwhile.

        To read them took a while, in which the annotation may have been corrected or deleted, and examples taken out
        of use. Events wait while it is written. Whoever takes out of use does not: what was noted until the end leaves
        again, and what is noted later leaves by its key.

        Args:
            same: the approval as it was stored before its annotation was read.
            examples: those that were lacking.
            put: stores the approval with all the examples that it is given, and bounds the pools.
        """
        with suppress(Refused), while_nothing_is_read(self._store, self._project):
            before = self._look()
            lacking = self._lacking(before, same)
            joining = [example for example in examples if example.info.target in lacking]
            there = {info.key for info in before.all if info.annotation == same.annotation}
            changed = same not in self._store.approvals(self._project, tasks=[same.task])
            if changed or not joining or there & before.leaving:
                return
            staying = list(self._store.examples(there).values())
            self._store.put_approval(replace(same, digest=""), staying)  # or it would count as read
            put([*staying, *joining])
            after = self._look()
            gone = there & after.leaving
            gone |= {one.info.key for one in joining if after.keeps_out(one.info.target, same)}
            if gone:
                self._store.drop_examples(gone)

    def _look(self) -> "_Pools":
        return _Pools(self._store, self._project, self._lost)

    def _is_open(self, pools: "_Pools", target: str) -> bool:
        """Whether a pool has room, and nothing was forgotten of what is to stay out of it."""
        return pools.remembers_all and len(pools.there[target]) < self._size

    def _lacking(self, pools: "_Pools", approval: Approval) -> set[str]:
        return {
            name
            for name in self._targets
            if self._is_open(pools, name)
            and approval.annotation not in pools.there[name]
            and not pools.keeps_out(name, approval)
        }

    def _said(self, annotation: Mapping[str, Any]) -> set[str]:
        """Ids of the targets that an annotation's regions belong to."""
        return {
            self._lost.destination(target.id, annotation["id"])
            for target in self._sources
            if says(annotation, target)
        }


class _Pools:
    """A project's pools at one moment, and what is out of use.

    Attributes:
        all: the examples.
        there: the annotations that they are of, by target id.
        remembers_all: whether it is known of everything that is out of use.
        leaving: keys of what was taken out of use, also of what is still there because that has just begun.
    """

    def __init__(self, store: Store, project: str, lost: LostLabels) -> None:
        self.all = store.pool(project)  # first: what leaves is noted before it does
        noted = [one for one in dropped.listed(store, project, ()) if not one.returning]
        self.remembers_all = dropped.remembers_all(store, project)
        self.leaving = {one.key for one in noted}
        self.there: defaultdict[str, set[int]] = defaultdict(set)
        self._in_use: defaultdict[_Group, set[int]] = defaultdict(set)
        teaching: set[tuple[int, str]] = set()
        for info in self.all:
            self.there[info.target].add(info.annotation)
            if info.key in self.leaving:
                continue
            teaching.add((info.annotation, info.target))
            for group in _groups(_belongs(lost, info.target, info.annotation), info):
                self._in_use[group].add(info.annotation)
        out = [one for one in noted if (one.annotation, one.target) not in teaching]
        of = {one.annotation: one for one in store.approvals(project, tasks={one.task for one in out})}
        self._out: set[tuple[int, str]] = set()
        self._groups_out: set[_Group] = set()
        for one in out:
            target = _belongs(lost, one.target, one.annotation)
            self._out.add((one.annotation, target))
            if approval := of.get(one.annotation):  # whose time moves where it is submitted again unchanged
                self._groups_out |= _groups(target, replace(approval, at=one.of or approval.at))

    def keeps_out(self, target: str, approval: Approval) -> bool:
        """Whether an approval is out of use, or all of a person, day or label that it is of."""
        return (approval.annotation, target) in self._out or any(
            self._in_use[group] <= {approval.annotation}
            for group in _groups(target, approval) & self._groups_out
        )


def _belongs(lost: LostLabels, target: str, annotation: int) -> str:
    return lost.destination(target, annotation) or target


def _groups(target: str, of: Approval | ExampleInfo) -> set[_Group]:
    return {(target, "", None), (target, "person", of.annotator), (target, "day", of.at[:10])}
