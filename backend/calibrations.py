"""How raw scores are to be taken, target by target: as the worker fitted it, kept in the store."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from backend.store import Store
from model.score import Absence, Calibration


@dataclass(frozen=True)
class Fitted:
    """What was fitted to a checkpoint's predictions of a project.

    Attributes:
        curves: by target id: how raw scores become expected kept IoU.
        absences: by target id: when a target is taken not to be there.
        whole: ids of targets with small objects for which a nearer look was found not to pay.
    """

    curves: dict[str, Calibration] = field(default_factory=dict)
    absences: dict[str, Absence] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()


def write_calibrations(
    store: Store,
    project: str,
    checkpoint: str,
    fitted: Mapping[str, Calibration],
    absences: Mapping[str, Absence] | None = None,
    whole: Collection[str] = (),
) -> None:
    """Keep a project's calibrations in place of those before.

    Args:
        store: where to.
        project: project key.
        checkpoint: identity of the weights whose predictions they were fitted to.
        fitted: by target id: how raw scores become expected kept IoU.
        absences: by target id: when a target is taken not to be there. Those that never say so need not be given.
        whole: ids of targets with small objects for which a nearer look was found not to pay.
    """
    kept = {
        "checkpoint": checkpoint,
        "curves": {target: [one.offset, one.slope] for target, one in fitted.items()},
        "absences": {target: [one.below, one.score] for target, one in (absences or {}).items()},
        "whole": {target: [] for target in whole},
    }
    store.set_note(f"scores:{project}", json.dumps(kept))


def read_calibrations(store: Store, project: str, checkpoint: str) -> dict[str, Calibration] | None:
    """A project's calibrations by target id; a target whose pool is too small has none.

    Returns:
        None where nothing was ever fitted to this checkpoint's predictions.
    """
    fitted = read_fitted(store, project, checkpoint)
    return None if fitted is None else fitted.curves


def read_whole(store: Store, project: str, checkpoint: str) -> frozenset[str]:
    """Targets for which a nearer look was found not to pay, by id."""
    return (read_fitted(store, project, checkpoint) or Fitted()).whole


def read_fitted(store: Store, project: str, checkpoint: str) -> Fitted | None:
    """All that was fitted, read once; None where nothing was. Notes of earlier versions have curves alone."""
    note = store.note(f"scores:{project}")
    if note is None:
        return None
    kept = json.loads(note)
    if kept["checkpoint"] != checkpoint:
        return None
    return Fitted(
        {target: Calibration(*curve) for target, curve in kept["curves"].items()},
        {target: Absence(*rule) for target, rule in kept.get("absences", {}).items()},
        frozenset(kept.get("whole", ())),
    )
