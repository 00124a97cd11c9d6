"""What people ask of shadows: start, stop; and why one has come to its end by itself."""

import time
import uuid

from backend import revision
from backend.errors import BadRequest, NotFound, Refused
from backend.revision import Snapshot
from backend.shadows.records import Shadow, called, changing, over, running
from backend.store import PromptRecord, Store

USUAL = 20
"""Submissions that a shadow is started for where nobody says how many."""

MOST = 500
"""Submissions that it can be started for."""


def start(
    store: Store,
    snapshot: Snapshot,
    checkpoint: str,
    prompt: int | None = None,
    target: str | None = None,
    submissions: int = USUAL,
) -> Shadow:
    """Let a prompt, or examples alone, predict silently from the next submission on.

    Args:
        store: where it is noted.
        snapshot: the project's, now.
        checkpoint: identity of the weights that predict.
        prompt: number of the version; None for examples alone.
        target: target id: whose examples; None where only one prompt is active.
        submissions: how many are to be compared.

    Raises:
        BadRequest: if `submissions` is not 1 to `MOST`.
        NotFound: if there is no such version or target.
        Refused: if it is in use, cannot be used, or another one of the label runs.
    """
    if not 1 <= submissions <= MOST:
        raise BadRequest(f"A shadow runs for 1 to {MOST} submissions, not {submissions}.")
    learned_from: set[int] = set()
    since = 0.0
    if prompt is None:
        target = _with_examples(snapshot, target)
    else:
        record = _fit(store, snapshot, checkpoint, prompt, target)
        target, since = record.target, record.created
        learned_from = {info.task for info in snapshot.pool.get(target, ()) if info.key in record.examples}
    shadow = Shadow(
        id=uuid.uuid4().hex[:12],
        target=target,
        prompt=prompt,
        against=_in_use(snapshot, target),
        wanted=submissions,
        started=time.time(),
        since=since,
        learned_from=tuple(sorted(learned_from)),
    )
    with changing(store, snapshot.project) as shadows:
        for one in running(shadows, target):
            if (why := why_over(store, snapshot, checkpoint, one)) is None:
                raise Refused(f"A shadow of this label runs already: {one.name}.", remedy="Stop it first.")
            shadows[one.id] = over(one, why)
        shadows[shadow.id] = shadow
    return shadow


def stop(store: Store, project: str, target: str | None = None) -> Shadow:
    """End a shadow now; what it has compared stays.

    Args:
        store: where it is noted.
        project: project key.
        target: whose; None where only one runs.

    Raises:
        Refused: if none runs, or more than one and no target is given.
    """
    with changing(store, project) as shadows:
        found = running(shadows, target)
        if not found:
            raise Refused("No shadow runs: there is nothing to stop.")
        if len(found) > 1:
            targets = ", ".join(one.target for one in found)
            raise Refused("Shadows of several labels run.", remedy=f"Name one of {targets}.")
        ended = shadows[found[0].id] = over(found[0], "Stopped by hand.")
    return ended


def why_over(store: Store, snapshot: Snapshot, checkpoint: str, shadow: Shadow) -> str | None:
    """Why a shadow that runs must end, a sentence; None where it need not.

    Args:
        store: where prompts are.
        snapshot: the project's, now.
        checkpoint: identity of the weights that predict.
        shadow: one that runs.
    """
    if shadow.prompt is not None:
        record = _version(store, snapshot.project, shadow.prompt)
        if record is None:
            return f"Prompt {shadow.prompt} is not there any more."
        if (why := revision.unfit(record, snapshot.config, checkpoint)) is not None:
            return why
    elif all(target.id != shadow.target for target in snapshot.config.targets):
        return f"Target {shadow.target} is not in the labeling config."
    now = _in_use(snapshot, shadow.target)
    if now == shadow.prompt:
        return "It came into use itself."
    if now != shadow.against:
        return f"What it was compared with is out of use: {called(shadow.against)}."
    return None


def _in_use(snapshot: Snapshot, target: str) -> int | None:
    active = snapshot.prompts.get(target)
    return active.number if active else None


def _version(store: Store, project: str, number: int) -> PromptRecord | None:
    return next((one for one in store.prompts.prompts(project) if one.number == number), None)


def _fit(store: Store, snapshot: Snapshot, checkpoint: str, number: int, target: str | None) -> PromptRecord:
    """The version that is to be a shadow."""
    record = _version(store, snapshot.project, number)
    if record is None:
        raise NotFound(
            f"Project {snapshot.project} has no prompt {number}.",
            remedy="`prompts list` shows those that there are.",
        )
    if target not in (None, record.target):
        raise Refused(f"Prompt {number} is of target {record.target}.")
    if (why := revision.unfit(record, snapshot.config, checkpoint)) is not None:
        raise Refused(f"Prompt {number} cannot be a shadow. {why}")
    if record.status == "active":
        raise Refused(f"Prompt {number} is active: what is kept of it is measured anyway.")
    return record


def _with_examples(snapshot: Snapshot, target: str | None) -> str:
    """The target whose examples are to be a shadow."""
    active = snapshot.prompts
    if target is None and len(active) > 1:
        raise Refused("Prompts of several labels are active.", remedy=f"Name one of {', '.join(active)}.")
    target = next(iter(active), None) if target is None else target
    if target is not None and all(one.id != target for one in snapshot.config.targets):
        raise NotFound(f"The project has no target '{target}'.")
    if target is None or target not in active:
        raise Refused("No prompt is active there: examples are what is in use.")
    if not snapshot.pool.get(target):
        raise Refused("Nothing has been approved of this label: there are no examples.")
    return target
