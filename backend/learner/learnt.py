"""What learning changed: while a pass goes on, and its end, which moves the revision and gives it as a value."""

from collections.abc import Collection
from dataclasses import dataclass

from backend.revision import pays_at
from backend.store import Store


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


class Tally:
    """What has changed so far in one pass.

    Args:
        project: project key.
        owing: name of the note that an example is being changed, and the revision has not moved for it yet.
        owed: whether a pass before it ended in the middle of a change, so that the revision has to move.
        before: how many approvals the project had ever had.
    """

    def __init__(self, project: str, owing: str, *, owed: bool, before: int) -> None:
        self.project = project
        self.owing = owing
        self.before = before
        self.changed = owed  # an example was corrected or withdrawn
        self.approved = 0
        self.withdrawn = 0
        self.unread: list[tuple[int, str]] = []
        self.away = False
        self.tried_again: Collection[int] | None = None  # annotations whose events wait; None: unknown


def begin(store: Store, project: str, kind: str) -> Tally:
    """A tally that knows whether the last pass of its kind ended in a change, before it moved the revision."""
    owing = f"owed:{project}:{kind}"
    return Tally(project, owing, owed=bool(store.note(owing)), before=_approvals_ever(store, project))


def conclude(store: Store, tally: Tally, *, moved: bool) -> Learnt:
    """Move the revision once for all that changed, if it pays and something else has not moved it.

    The note that a move is owed goes then, and up to which approval was looked at is noted.
    """
    pays = _pays(store, tally.project, tally.before)
    if not moved and (tally.changed or pays):
        store.move_generation(tally.project)
        moved = True
    if store.note(tally.owing):
        store.set_note(tally.owing, "")
    return Learnt(moved, tally.approved, tally.withdrawn, tuple(tally.unread), tally.away)


def _pays(store: Store, project: str, before: int) -> bool:
    """Whether the approvals since number `before` move the revision.

    An event and a reconcile that run side by side both see the same number pass: only one of them may move it. One
    that ended in the middle moved nothing: what it stored is looked at by whoever comes next.
    """
    looked_at = f"looked-at:{project}"
    now = _approvals_ever(store, project)
    numbers = range(min(before, int(store.note(looked_at) or 0)) + 1, now + 1)
    paying = [number for number in numbers if pays_at(number)]
    first_to_see = [number for number in paying if store.note_once(f"paid:{project}:{number}", "")]
    if numbers:
        store.set_note(looked_at, str(now))
    return bool(first_to_see)


def _approvals_ever(store: Store, project: str) -> int:
    record = store.project(project)
    return record.approvals if record else 0
