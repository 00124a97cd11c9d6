"""Learner: applies events and exports to the store, and says as a value what that changed."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import dropped, lost_labels, pins, sequences, shadows, titles, troubles
from backend.errors import ImageError, LabelConfigError, Refused, RegionError
from backend.images import ImageLoader
from backend.label_config import LabelConfig, Target, image_url, parse
from backend.label_studio import LabelStudio, is_outage
from backend.learner import annotations, due, kept, pool, room, shaping, withdrawn
from backend.learner.learnt import Learnt, Tally, begin, conclude
from backend.protocol import as_list, ids_of, is_id, parse_time, project_key
from backend.revision import project_of
from backend.settings import Settings
from backend.store import Approval, Change, Event, Store, StoredExample

log = logging.getLogger(__name__)

_Labels = tuple[LabelConfig, lost_labels.LostLabels]
Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Learner:
    """Turns approved annotations into examples of the store."""

    def __init__(
        self,
        store: Store,
        label_studio: LabelStudio,
        images: ImageLoader,
        describe: Describe,
        settings: Settings,
    ) -> None:
        self._store = store
        self._label_studio = label_studio
        self._images = images
        self._describe = describe
        self._settings = settings

    def apply(self, event: Event) -> Learnt:
        """Apply one stored event, from its payload alone.

        Idempotent: an event applied twice, or one older than what is known, changes nothing.

        Raises:
            LabelConfigError: the stored label config cannot be read; nothing has changed.
        """
        body = event.body
        moved = self._see_config(event.project, body.get("project"), event.received)
        self._config(event.project)  # an approval must not be taken for one without masks
        tally = begin(self._store, event.project, "events")
        match event.action:
            case "ANNOTATION_CREATED" | "ANNOTATION_UPDATED" | "ANNOTATIONS_CREATED":
                self._apply_annotations(event, tally)
            case "ANNOTATIONS_DELETED" | "ANNOTATION_DELETED":
                gone = ids_of(body.get("annotations")) + ids_of(body.get("annotation"))
                self._withdraw(event.project, dict.fromkeys(gone, withdrawn.FOR_GOOD), tally)
            case "TASKS_DELETED":
                self._forget_tasks(event.project, ids_of(body.get("tasks")) + ids_of(body.get("task")), tally)
        learnt = conclude(self._store, tally, moved=moved)
        created = event.action == "TASKS_CREATED"
        train = event.action == "START_TRAINING"
        return replace(learnt, new_tasks=created or learnt.moved, read_again=moved, train=train)

    def reconcile(self, project: str, tasks: Collection[int] | None = None) -> Learnt:
        """Make the project's approvals equal to Label Studio's: all of them, or those of some tasks.

        Raises:
            Unreachable: no answer; nothing has changed.
            Unauthorized: Label Studio refused the token.
            NotFound: the project is gone, or another one has its number.
            LabelConfigError: the stored label config cannot be read; nothing has changed.
            Refused: somebody else withdraws approvals all the time; what was read until then is stored.
        """
        info = self._label_studio.project_of(project)
        moved = self._see_config(
            project, {"label_config": info.label_config, "title": info.title}, time.time()
        )
        self._config(project)
        started, begun = time.time(), time.monotonic()
        signs = due.signs(self._store, project, self._label_studio.signs(info), self._settings)
        tally = begin(self._store, project, "comparison")
        wanted = None if tasks is None else set(tasks)
        # Events are applied meanwhile, and know better than an export that was begun before them.
        known, noted = self._approved(project, wanted), withdrawn.noted(self._store, project)
        waiting = withdrawn.waiting(self._store, project) if wanted is None else set()
        tally.tried_again = waiting if wanted is None else None
        exported = annotations.newest_first(self._label_studio.export(info.id, wanted))
        rows = [(task, annotation) for task in exported for annotation in as_list(task.get("annotations"))]
        approved = [(task, annotation) for task, annotation in rows if self._counts(annotation)]
        truth = {annotation["id"] for _, annotation in approved}
        withdrawn.forget(self._store, project, noted, truth, [task["id"] for task in exported])
        for task, annotation in approved:
            self._teach(project, task, annotation, tally)
        until = withdrawn.until(annotation for _, annotation in rows)
        gone = {one: until.get(one, withdrawn.FOR_GOOD) for one in (known.keys() | waiting) - truth}
        gone = withdrawn.but_for_newer(gone, self._approved(project, wanted), known)
        self._withdraw(project, gone, tally)
        seconds = time.monotonic() - begun  # before pools are filled, which only takes the time that there is
        if wanted is None:
            self._take_up(project, exported, tally)
        sequences.place_again(self._store, project, exported, self._settings)
        if wanted is None and not tally.away:
            due.ended(self._store, project, started, signs, seconds, unread=bool(tally.unread))
        learnt = conclude(self._store, tally, moved=moved)
        return replace(learnt, new_tasks=True)

    def is_due(self, project: str) -> bool:
        """Whether a full reconcile pays, see `due`.

        Raises:
            LabelStudioError: no answer, or a refusal.
            NotFound: as `reconcile`.
        """
        record = self._store.project(project)
        if record is None:
            return True
        if (is_due := due.by_time(self._store, record)) is not None:
            return is_due
        info = self._label_studio.project_of(project)
        titles.remember(self._store, project, info.title)
        signs = due.signs(self._store, project, self._label_studio.signs(info), self._settings)
        return due.by_signs(self._store, record, signs)

    # -- one thing at a time -------------------------------------------------------------------------------------
    def _see_config(self, project: str, payload: object, at: float) -> bool:
        """Remember label config and title in a payload's project, as it was then; whether the revision moved."""
        troubles.over(self._store, "gone", project)  # whatever was found: Label Studio speaks of it
        if not isinstance(payload, Mapping):
            return False
        titles.remember(self._store, project, payload.get("title"))
        xml = payload.get("label_config")
        if not isinstance(xml, str) or not xml:
            return False
        try:
            return lost_labels.put_label_config(self._store, project, xml, at)
        except LabelConfigError as error:
            record = self._store.project(project)
            if record is None or record.label_config != xml:  # of what is stored, whoever needs it tells
                log.warning("project %s: label config ignored: %s", project, error)
            return False

    def _config(self, project: str) -> LabelConfig:
        record = self._store.project(project)
        return parse(record.label_config) if record and record.label_config else LabelConfig(())

    def _approved(self, project: str, tasks: Collection[int] | None) -> dict[int, str]:
        """When approved annotations were last changed."""
        return {approval.annotation: approval.at for approval in self._store.approvals(project, tasks=tasks)}

    def _counts(self, annotation: Mapping[str, Any]) -> bool:
        return annotations.counts(annotation, self._settings.approved_when, self._settings.learn_from_bulk)

    def _apply_annotations(self, event: Event, tally: Tally) -> None:
        tasks = {task["id"]: task for task in as_list(event.body.get("task")) if is_id(task.get("id"))}
        single, others = event.action != "ANNOTATIONS_CREATED", []
        for annotation in as_list(event.body.get("annotation")):
            named = annotation.get("task")
            told = next(iter(tasks.values()), None) if single else None
            task = tasks.get(named, told) if is_id(named) else told
            if not self._counts(annotation):
                others.append(annotation)
            elif task is not None:
                self._teach(event.project, task, annotation, tally)
        self._leave(event.project, others, tally, are_new=event.action != "ANNOTATION_UPDATED")

    def _leave(self, project: str, rows: Sequence[Mapping[str, Any]], tally: Tally, *, are_new: bool) -> None:
        """Withdraw annotations that do not count, unless they were approved later; nothing older is told of new ones."""
        if not rows:
            return
        tasks = [row["task"] for row in rows if is_id(row.get("task"))]
        now = self._approved(project, set(tasks) if len(tasks) == len(rows) else None)
        gone = withdrawn.but_for_newer(withdrawn.until(rows), now)
        self._withdraw(project, {one: gone[one] for one in gone if one in now or not are_new}, tally)

    def _teach(
        self, project: str, task: Mapping[str, Any], annotation: Mapping[str, Any], tally: Tally
    ) -> None:
        """Store one approval with its examples; what cannot be read is noted in the tally."""
        if tally.away:
            return
        approval, known, labels = self._approval(project, task, annotation)
        same = known.get(approval.annotation)
        if same and same.digest == approval.digest:
            if same.at != approval.at:  # of something older that is told later, this one is the newer
                self._store.put_approval(replace(same, at=approval.at), None)
            return
        if withdrawn.covers(self._store, approval):
            return
        try:
            masks, examples = self._read(approval, same, task, annotation, labels)
        except (ImageError, RegionError) as error:
            tally.unread.append((approval.task, str(error)))
            tally.away = is_outage(error.__cause__) and self._label_studio.is_away()
            if not tally.away:  # of that the client tells, once
                log.warning("project %s task %d: approval not usable yet: %s", project, approval.task, error)
            if same and not is_outage(error.__cause__):
                self._unlearn(same, approval, tally)
            return
        if self._put(approval, examples, known=same is not None, tally=tally):
            tally.approved += 1
            compared = kept.compare(self._store, approval, masks, annotations.seen(annotation))
            self._store.add_kept(compared)
            try:
                shadows.wait_for(self._store, approval, compared, masks, is_first=not known)
            except Refused as error:  # the approval is stored: what follows from it must not be lost
                log.warning("project %s task %d: not compared by a shadow: %s", project, approval.task, error)

    def _unlearn(self, same: Approval, correction: Approval, tally: Tally) -> None:
        """Take out what a correction says is wrong, where the correction cannot be read and no try of it waits."""
        waits = tally.tried_again is None or same.annotation in tally.tried_again
        if waits or (parse_time(correction.at) or 0.0) <= (parse_time(same.at) or 0.0):
            return
        of_it = [info for info in self._store.pool(same.project) if info.annotation == same.annotation]
        pinned = [(info.annotation, info.target) for info in of_it if info.pinned]
        pins.wait_for(self._store, same.project, pinned)
        self._put(replace(same, digest=""), [], known=True, tally=tally)  # still to be read
        if self._store.drop_examples([info.key for info in of_it]):  # it was to be read again already
            tally.changed = True

    def _take_up(self, project: str, exported: Iterable[Mapping[str, Any]], tally: Tally) -> None:
        """Let known approvals join pools that have room and lack them; none is waited for that cannot be read."""
        config, size = self._config(project), self._settings.pool_size
        free = room.Room(self._store, project, config, lost_labels.of(self._store, project, config), size)
        for lack in free.lacks(exported):
            if tally.away:
                return
            approval, known, labels = self._approval(project, lack.task, lack.annotation)
            same = known.get(approval.annotation)
            if same is None or same.digest != approval.digest:
                continue
            try:
                _, examples = self._read(approval, same, lack.task, lack.annotation, labels, lack.targets)
            except (ImageError, RegionError) as error:
                tally.away = is_outage(error.__cause__) and self._label_studio.is_away()
                continue
            free.join(same, examples, partial(self._put, approval, known=True, tally=tally))

    def _approval(
        self, project: str, task: Mapping[str, Any], annotation: Mapping[str, Any]
    ) -> tuple[Approval, dict[int, Approval], _Labels]:
        """An annotation as an approval, those of its task that are known, and by which labels it is read."""
        config = self._config(project)
        lost = lost_labels.of(self._store, project, config)
        approval = annotations.approval(project, task, annotation, config, lost)
        known = self._store.approvals(project, tasks=[approval.task])
        return approval, {one.annotation: one for one in known}, (config, lost)

    def _put(
        self, approval: Approval, examples: Sequence[StoredExample], *, known: bool, tally: Tally
    ) -> bool:
        """Store an approval, which may be known, and bound the pools that it joins; whether it says anything new."""
        project = approval.project
        if withdrawn.covers(self._store, approval):  # while it was read
            return False
        earlier = {info.key for info in self._store.pool(project) if info.annotation == approval.annotation}
        if known:
            self._store.set_note(tally.owing, "1")
        change = self._store.put_approval(approval, examples)
        if change not in (Change.NEW, Change.CHANGED):
            return False
        if withdrawn.covers(self._store, approval):  # in this very moment
            self._store.withdraw(project, [approval.annotation])
            tally.changed |= bool(earlier)
            return False
        now = {example.info.key for example in examples}
        pins.came(self._store, project, [example.info for example in examples])
        tally.changed |= change is Change.CHANGED and earlier != now
        taught = {example.info.target for example in examples}
        pool.bound(self._store, project, taught, self._settings.pool_size)
        return True

    def _read(
        self,
        approval: Approval,
        same: Approval | None,
        task: Mapping[str, Any],
        annotation: Mapping[str, Any],
        labels: _Labels,
        lacking: Collection[str] = (),
    ) -> tuple[dict[str, NDArray[np.bool_]], list[StoredExample]]:
        """An annotation's masks by target id, and all examples that it is to have, or those alone that are lacking.

        Raises:
            ImageError: if an image cannot be had.
            RegionError: if a region cannot be read.
        """
        (config, lost), project = labels, approval.project
        targets = (*config.targets, *lost.targets)
        masks = annotations.masks(annotation, targets, self._settings.max_image_pixels)
        # What was taken out of use stays out until its annotation is changed, or it is put back. Saved again with
        # nothing changed it has another time; where the config changed, another digest.
        unchanged = same is not None and (
            same.digest == approval.digest or parse_time(same.at) == parse_time(approval.at)
        )
        out = dropped.still_out(self._store, project, approval.annotation) if unchanged else set()
        taught, aside = lost.sorted_out(shaping.without(masks, out), approval.annotation)
        kept_aside = self._kept_aside(approval, aside)
        new = shaping.without(taught, out) | shaping.readable(task, aside, kept_aside, lost)
        if lacking:
            new, kept_aside = shaping.without(new, new.keys() - lacking), []
        place, size = sequences.place_of(task, self._settings), self._settings.pool_size
        if pool.are_closed(self._store, approval, new, sequences.as_columns(place)[0], size):
            return masks, kept_aside
        return masks, self._examples(approval, task, new, targets) + kept_aside

    def _kept_aside(self, approval: Approval, aside: Collection[str]) -> list[StoredExample]:
        """The annotation's examples of lost labels, as they are."""
        keys = [
            info.key
            for info in (self._store.pool(approval.project) if aside else ())
            if info.annotation == approval.annotation and info.target in aside
        ]
        return list(self._store.examples(keys).values()) if keys else []

    def _examples(
        self,
        approval: Approval,
        task: Mapping[str, Any],
        masks: Mapping[str, NDArray[np.bool_]],
        targets: Iterable[Target],
    ) -> list[StoredExample]:
        data, place = task.get("data"), sequences.place_of(task, self._settings)
        examples = []
        for target in targets:
            mask = masks.get(target.id)
            if mask is None:
                continue
            url = image_url(target.value, data) if isinstance(data, Mapping) else None
            if url is None:
                raise ImageError(f"the task has no image under '{target.value}'.")
            image = self._images.open(url, approval.task)
            fitted, descriptor = shaping.fit(mask, image), self._describe(image)
            examples.append(shaping.example(approval, target, image, fitted, place, descriptor))
        return examples

    def _withdraw(self, project: str, gone: Mapping[int, float], tally: Tally) -> None:
        """Withdraw annotations as they were until a time, see `withdrawn.note`."""
        if not gone:
            return
        withdrawn.note(self._store, project, gone)
        taught = {info.annotation for info in self._store.pool(project)}
        if taught & gone.keys():
            self._store.set_note(tally.owing, "1")
        left = self._store.withdraw(project, list(gone))
        tally.withdrawn += len(left)
        tally.changed |= any(approval.annotation in taught for approval in left)

    def _forget_tasks(self, project: str, tasks: Sequence[int], tally: Tally) -> None:
        if tasks:
            withdrawn.note(self._store, project, {}, tasks)
            gone = dict.fromkeys(self._approved(project, tasks), withdrawn.FOR_GOOD)
            self._withdraw(project, gone, tally)
            self._store.forget_tasks(project, tasks)


def key_of(payload: Mapping[str, Any], store: Store) -> str | None:
    """The project key that a webhook's payload means; by number alone where the payload lacks its time."""
    key = project_key(payload.get("project"))
    if key is None or "." in key:
        return key
    return project_of(store, key)
