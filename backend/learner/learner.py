"""Learner: applies events and exports to the store, and says as a value what that changed."""

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import dropped
from backend.errors import ImageError, LabelConfigError, NotFound, RegionError
from backend.images import ImageLoader
from backend.label_config import LabelConfig, Target, image_url, parse
from backend.label_studio import LabelStudio, is_outage
from backend.learner import annotations, kept, pool
from backend.protocol import as_list, ids_of, is_id, parse_time, project_key, project_number
from backend.revision import pays_at, project_of
from backend.settings import Settings
from backend.store import Approval, Change, Event, ExampleInfo, Store, StoredExample
from backend.store.pictures import pack_image, pack_mask

log = logging.getLogger(__name__)

_RECONCILED_LONG_AGO = 3600.0

Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Learnt:
    """What an event or a reconcile changed.

    Attributes:
        moved: whether the project's revision moved.
        approved: approvals that are new or say something else.
        withdrawn: approvals that are gone.
        unread: task id and reason for approvals whose image or regions could not be read; they are tried again.
        away: whether the last of them could not because Label Studio is away: what comes after it was left.
        new_tasks: whether there may be tasks to predict ahead.
        read_again: whether the label config changed, so that every approval may teach something else.
        train: whether somebody asked for a tuning.
    """

    moved: bool = False
    approved: int = 0
    withdrawn: int = 0
    unread: tuple[tuple[int, str], ...] = ()
    away: bool = False
    new_tasks: bool = False
    read_again: bool = False
    train: bool = False


class _Tally:
    """What has changed so far in one pass."""

    def __init__(self) -> None:
        self.changed = False  # an example was corrected or withdrawn
        self.approved = 0
        self.withdrawn = 0
        self.unread: list[tuple[int, str]] = []
        self.away = False


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
        moved = self._see_config(event.project, body.get("project"))
        self._config(event.project)  # an approval must not be taken for one without masks
        tally = _Tally()
        before = self._approvals_ever(event.project)
        match event.action:
            case "ANNOTATION_CREATED" | "ANNOTATION_UPDATED" | "ANNOTATIONS_CREATED":
                self._apply_annotations(event, tally)
            case "ANNOTATIONS_DELETED" | "ANNOTATION_DELETED":
                gone = ids_of(body.get("annotations")) + ids_of(body.get("annotation"))
                self._withdraw(event.project, gone, tally)
            case "TASKS_DELETED":
                self._forget_tasks(event.project, ids_of(body.get("tasks")) + ids_of(body.get("task")), tally)
        learnt = self._conclude(event.project, before, tally, moved)
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
        """
        number = project_number(project)
        info = self._label_studio.project(number)
        if info.key != project:
            raise NotFound(f"project {project} is no longer what Label Studio has under number {number}.")
        moved = self._see_config(project, {"label_config": info.label_config})
        self._config(project)
        before = self._approvals_ever(project)
        started = time.time()
        signs = self._label_studio.signs(info)
        tally = _Tally()
        wanted = None if tasks is None else set(tasks)
        # Events are applied meanwhile, and know better than an export that was begun before them.
        known = self._approved(project, wanted)
        truth: set[int] = set()
        for task in _newest_first(self._label_studio.export(number, wanted)):
            for annotation in as_list(task.get("annotations")):
                if self._counts(annotation):
                    truth.add(annotation["id"])
                    if annotation["id"] not in known - self._approved(project, [task["id"]]):
                        self._teach(project, task, annotation, tally)
        self._withdraw(project, sorted(known - truth), tally)
        if wanted is None:
            self._drop_retries(project, lambda annotation: annotation.get("id") not in truth)
        if wanted is None and not tally.unread:
            self._store.mark_reconciled(project, started, signs)
            self._store.set_note(f"reconcile-seconds:{project}", str(time.time() - started))
        learnt = self._conclude(project, before, tally, moved)
        return replace(learnt, new_tasks=True)

    def is_due(self, project: str) -> bool:
        """Whether a full reconcile pays: never done, long ago, or Label Studio's cheap figures differ.

        Exports of a large project take long; one that differs is due only after twenty times as long.

        Raises:
            LabelStudioError: as `reconcile`.
        """
        record = self._store.project(project)
        if record is None:
            return True
        age = time.time() - record.reconciled
        if age > _RECONCILED_LONG_AGO:
            return True
        if age < 20 * float(self._store.note(f"reconcile-seconds:{project}") or 0):
            return False
        return self._label_studio.signs(self._label_studio.project(record.id)) != record.signs

    # -- one thing at a time -------------------------------------------------------------------------------------
    def _see_config(self, project: str, payload: object) -> bool:
        """Remember the label config in a payload's project; whether the revision moved."""
        xml = payload.get("label_config") if isinstance(payload, Mapping) else None
        if not isinstance(xml, str) or not xml:
            return False
        try:
            fingerprint = parse(xml).fingerprint
        except LabelConfigError as error:
            record = self._store.project(project)
            if record is None or record.label_config != xml:  # of what is stored, whoever needs it tells
                log.warning("project %s: label config ignored: %s", project, error)
            return False
        return self._store.put_label_config(project, xml, fingerprint)

    def _config(self, project: str) -> LabelConfig:
        record = self._store.project(project)
        return parse(record.label_config) if record and record.label_config else LabelConfig(())

    def _approvals_ever(self, project: str) -> int:
        record = self._store.project(project)
        return record.approvals if record else 0

    def _approved(self, project: str, tasks: Collection[int] | None) -> set[int]:
        return {approval.annotation for approval in self._store.approvals(project, tasks=tasks)}

    def _counts(self, annotation: Mapping[str, Any]) -> bool:
        return annotations.counts(annotation, self._settings.approved_when, self._settings.learn_from_bulk)

    def _apply_annotations(self, event: Event, tally: _Tally) -> None:
        tasks = {task["id"]: task for task in as_list(event.body.get("task")) if is_id(task.get("id"))}
        single = event.action != "ANNOTATIONS_CREATED"
        for annotation in as_list(event.body.get("annotation")):
            named = annotation.get("task")
            told = next(iter(tasks.values()), None) if single else None
            task = tasks.get(named, told) if is_id(named) else told
            if self._counts(annotation) and task is not None:
                self._teach(event.project, task, annotation, tally)
            elif is_id(annotation.get("id")) and not self._is_stale(event.project, annotation):
                self._withdraw(event.project, [annotation["id"]], tally)

    def _is_stale(self, project: str, annotation: Mapping[str, Any]) -> bool:
        """Whether the annotation has been approved at a later time than this one was changed."""
        changed = parse_time(annotation.get("updated_at"))
        approved = [a.at for a in self._store.approvals(project) if a.annotation == annotation["id"]]
        return changed is not None and any((parse_time(at) or 0.0) > changed for at in approved)

    def _teach(
        self, project: str, task: Mapping[str, Any], annotation: Mapping[str, Any], tally: _Tally
    ) -> None:
        """Store one approval with its examples; what cannot be read is noted in the tally."""
        if tally.away:
            return
        config = self._config(project)
        approval = annotations.approval(project, task, annotation, config)
        known = self._store.approvals(project, tasks=[approval.task])
        same = [a for a in known if a.annotation == approval.annotation]
        if same and same[0].digest == approval.digest:
            return
        try:
            masks = annotations.masks(annotation, config.targets, self._settings.max_image_pixels)
            taught = masks
            # One of its examples is put back, not all that were taken out of use.
            if same and not same[0].digest:
                out = dropped.still_out(self._store, project, approval.annotation)
                taught = {target: mask for target, mask in masks.items() if target not in out}
            examples = (
                [] if self._superfluous(approval, taught) else self._examples(approval, task, taught, config)
            )
        except (ImageError, RegionError) as error:
            tally.unread.append((approval.task, str(error)))
            tally.away = is_outage(error.__cause__) and self._label_studio.is_away()
            if not tally.away:  # of that the client tells, once
                log.warning("project %s task %d: approval not usable yet: %s", project, approval.task, error)
            return
        earlier = {info.key for info in self._store.pool(project) if info.annotation == approval.annotation}
        change = self._store.put_approval(approval, examples)
        if change in (Change.NEW, Change.CHANGED):
            tally.approved += 1
            now = {example.info.key for example in examples}
            tally.changed |= change is Change.CHANGED and earlier != now
            self._bound(project, {example.info.target for example in examples})
            self._store.add_kept(kept.compare(self._store, approval, masks))

    def _superfluous(self, approval: Approval, masks: Mapping[str, NDArray[np.bool_]]) -> bool:
        """Whether every pool that the approval would join is full of newer masks that people drew or corrected."""

        def full(target: str) -> bool:
            newer = [
                info
                for info in self._store.pool(approval.project, target)
                if info.at > approval.at
                and info.kind != "accepted"
                and info.annotation != approval.annotation
            ]
            return len(newer) >= self._settings.pool_size

        return bool(masks) and all(full(target) for target in masks)

    def _examples(
        self,
        approval: Approval,
        task: Mapping[str, Any],
        masks: Mapping[str, NDArray[np.bool_]],
        config: LabelConfig,
    ) -> list[StoredExample]:
        data = task.get("data")
        examples = []
        for target in config.targets:
            mask = masks.get(target.id)
            if mask is None:
                continue
            url = image_url(target.value, data) if isinstance(data, Mapping) else None
            if url is None:
                raise ImageError(f"the task has no image under '{target.value}'.")
            image = self._images.open(url, approval.task)
            examples.append(self._example(approval, target, image, _fit(mask, image)))
        return examples

    def _example(
        self, approval: Approval, target: Target, image: NDArray[np.uint8], mask: NDArray[np.bool_]
    ) -> StoredExample:
        image_png, mask_png = pack_image(image), pack_mask(mask)
        content = hashlib.sha256(image_png + mask_png)
        content.update(f"{approval.project} {approval.annotation} {target.id}".encode())
        info = ExampleInfo(
            key=content.hexdigest()[:32],
            project=approval.project,
            target=target.id,
            task=approval.task,
            annotation=approval.annotation,
            kind=approval.kind,
            annotator=approval.annotator,
            at=approval.at,
            area=float(mask.mean()),
            descriptor=self._describe(image).astype(np.float32).tobytes(),
        )
        return StoredExample(info, image_png, mask_png)

    def _bound(self, project: str, targets: Collection[str]) -> None:
        for target in targets:
            leaving = pool.surplus(self._store.pool(project, target), self._settings.pool_size)
            if leaving:
                self._store.drop_examples(leaving)

    def _withdraw(self, project: str, gone: Sequence[int], tally: _Tally) -> None:
        if not gone:
            return
        self._drop_retries(project, lambda annotation: annotation.get("id") in gone)
        taught = {info.annotation for info in self._store.pool(project)}
        withdrawn = self._store.withdraw(project, gone)
        tally.withdrawn += len(withdrawn)
        tally.changed |= any(approval.annotation in taught for approval in withdrawn)

    def _forget_tasks(self, project: str, tasks: Sequence[int], tally: _Tally) -> None:
        if tasks:
            self._drop_retries(project, lambda annotation: annotation.get("task") in tasks)
            self._withdraw(
                project, [a.annotation for a in self._store.approvals(project, tasks=tasks)], tally
            )
            self._store.forget_tasks(project, tasks)

    def _drop_retries(self, project: str, gone: Callable[[Mapping[str, Any]], bool]) -> None:
        """Give up events that wait to be tried again: they are older, and must not bring back what is gone."""
        for event in self._store.pending_events(1000):
            submitted = as_list(event.body.get("annotation"))
            if event.project == project and event.attempts and submitted and all(map(gone, submitted)):
                self._store.finish_event(event.id)

    def _pays(self, project: str, before: int) -> bool:
        """Whether the approvals since number `before` move the revision.

        An event and a reconcile that run side by side both see the same number pass: only one of them may move it.
        """
        numbers = range(before + 1, self._approvals_ever(project) + 1)
        paying = [number for number in numbers if pays_at(number)]
        first_to_see = [number for number in paying if self._store.note_once(f"paid:{project}:{number}", "")]
        return bool(first_to_see)

    def _conclude(self, project: str, before: int, tally: _Tally, moved: bool) -> Learnt:
        """Move the revision once for all that changed, if it pays."""
        pays = self._pays(project, before)
        if not moved and (tally.changed or pays):
            self._store.move_generation(project)
            moved = True
        return Learnt(moved, tally.approved, tally.withdrawn, tuple(tally.unread), tally.away)


def key_of(payload: Mapping[str, Any], store: Store) -> str | None:
    """The project key that a webhook's payload means; by number alone where the payload lacks its time."""
    key = project_key(payload.get("project"))
    if key is None or "." in key:
        return key
    return project_of(store, key)


def _newest_first(tasks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tasks by their latest annotation: once the pool is full of what is recent, older images need no reading."""

    def latest(task: Mapping[str, Any]) -> str:
        return max((str(a.get("updated_at") or "") for a in as_list(task.get("annotations"))), default="")

    return sorted(tasks, key=latest, reverse=True)


def _fit(mask: NDArray[np.bool_], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The mask at the image's size; they differ only where the file changed after it was annotated.

    Raises:
        RegionError: if the proportions differ, so that mask and image cannot belong together.
    """
    height, width = image.shape[:2]
    if mask.shape == (height, width):
        return mask
    if abs(mask.shape[1] / mask.shape[0] - width / height) > 0.02 * width / height:
        raise RegionError(f"the mask is {mask.shape[1]} x {mask.shape[0]}, but the image {width} x {height}.")
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    fitted: NDArray[np.bool_] = mask[rows[:, None], columns]
    return fitted
