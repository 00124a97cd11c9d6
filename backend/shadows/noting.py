"""What the worker notes of shadows: submissions that wait for them, and what became of those."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backend.sequences import predicted_task
from backend.shadows.comparing import Pair
from backend.shadows.records import Shadow, Waiting, changing, over, packed, read, running
from backend.store import Approval, KeptIoU, PredictionRecord, Store


def wait_for(
    store: Store,
    approval: Approval,
    compared: Sequence[KeptIoU],
    masks: Mapping[str, NDArray[np.bool_]],
    *,
    is_first: bool,
) -> None:
    """Note a submission for the running shadows of its targets, where its prediction can be compared with theirs.

    A task counts once, by the first annotation of it that is approved: nothing has learned from it then. A correction
    of that annotation replaces what was noted of it, as long as the shadow runs.

    Args:
        store: where they are noted.
        approval: what was submitted.
        compared: its kept IoUs.
        masks: its masks by target id, `[H, W]` bool.
        is_first: whether nothing that is approved of the task now was before.

    Raises:
        Refused: if somebody else does not come to an end with changing the shadows; it is not noted.
    """
    if not compared:
        return
    wanted = {one.target for one in read(store, approval.project) if one.ended is None}
    rows = [row for row in compared if row.target in wanted]
    if not rows:
        return
    records = {one.revision: one for one in store.predictions(approval.project, approval.task)}
    with changing(store, approval.project) as shadows:
        for row in rows:
            shown = records.get(row.revision)
            for shadow in running(shadows, row.target):
                if shown is None or not _is_comparable(shadow, shown):
                    continue
                if _counts(shadow, approval, is_first):
                    waits = Waiting(
                        task=row.task,
                        annotation=row.annotation,
                        shown=row.iou,
                        at=shown.at,
                        mask=packed(masks.get(row.target)),
                    )
                    others = (one for one in shadow.waiting if one.annotation != row.annotation)
                    shadows[shadow.id] = replace(shadow, waiting=(*others, waits))


def predicted(store: Store, project: str, shadow: str, waits: Waiting, kept: float | None) -> None:
    """A submission has been predicted by a shadow; with the last one that it was started for it has come to its end.

    What a correction has replaced meanwhile, or was given up, is passed over.

    Args:
        store: where it is noted.
        project: project key.
        shadow: its id.
        waits: the submission.
        kept: what would have been kept of its mask, IoU, 0 to 1; None where that cannot be known.
    """
    with changing(store, project) as shadows:
        found = shadows.get(shadow)
        if found is None or waits not in found.waiting:
            return
        pairs = {pair.annotation: pair for pair in found.pairs}
        if kept is not None:
            pairs[waits.annotation] = Pair(waits.task, waits.annotation, waits.shown, kept)
        found = replace(
            found,
            pairs=tuple(pairs.values()),
            waiting=tuple(one for one in found.waiting if one != waits),
            missed=found.missed + (kept is None),
        )
        if len(pairs) >= found.wanted and not found.waiting:
            found = over(found, f"It has been compared on {found.wanted} submissions.")
        shadows[shadow] = found


def end(store: Store, project: str, shadow: str, reason: str) -> None:
    """A shadow that runs must end; what waits for it is given up."""
    with changing(store, project) as shadows:
        for one in running(shadows):
            if one.id == shadow:
                shadows[shadow] = over(one, reason)


def _is_comparable(shadow: Shadow, shown: PredictionRecord) -> bool:
    """Whether a shown prediction was by what the shadow is compared with, when its prompt was there, from the same means.

    What had been predicted on the frame before is not kept as it was then: the shadow would have less, or what its
    submission has brought about since.
    """
    context = shown.context.get(shadow.target, ())
    if any(predicted_task(key) is not None for key in context):
        return False
    return _prompt_among(context) == shadow.against and shown.at >= shadow.since


def _counts(shadow: Shadow, approval: Approval, is_first: bool) -> bool:
    counted = {pair.annotation: pair.task for pair in shadow.pairs}
    counted |= {waits.annotation: waits.task for waits in shadow.waiting}
    if approval.annotation in counted:
        return True
    passed_over = {*counted.values(), *shadow.learned_from}
    return is_first and approval.task not in passed_over and len(counted) < shadow.wanted


def _prompt_among(context: Sequence[str]) -> int | None:
    """Number of the prompt among a context's keys (see `unpacking.prompt_key`); None where it was examples alone."""
    numbers = [int(key.rpartition("/")[2]) for key in context if "/prompt/" in key]
    return next(iter(numbers), None)
