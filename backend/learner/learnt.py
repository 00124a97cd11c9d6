"""What learning changed: while a pass goes on, and as a value when it is over."""

from dataclasses import dataclass


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
        owing: name of the note that an example is being changed, and the revision has not moved for it yet.
        owed: whether a pass before it ended in the middle of a change, so that the revision has to move.
    """

    def __init__(self, owing: str, *, owed: bool) -> None:
        self.owing = owing
        self.changed = owed  # an example was corrected or withdrawn
        self.approved = 0
        self.withdrawn = 0
        self.unread: list[tuple[int, str]] = []
        self.away = False
