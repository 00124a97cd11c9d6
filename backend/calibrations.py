"""How raw scores become expected kept IoU, target by target: as the worker fitted it, kept in the store."""

import json
from collections.abc import Mapping

from backend.store import Store
from model.score import Calibration


def write_calibrations(
    store: Store, project: str, checkpoint: str, fitted: Mapping[str, Calibration]
) -> None:
    """Keep a project's calibrations in place of those before.

    Args:
        store: where to.
        project: project key.
        checkpoint: identity of the weights whose predictions they were fitted to.
        fitted: by target id.
    """
    curves = {target: [one.offset, one.slope] for target, one in fitted.items()}
    store.set_note(f"scores:{project}", json.dumps({"checkpoint": checkpoint, "curves": curves}))


def read_calibrations(store: Store, project: str, checkpoint: str) -> dict[str, Calibration] | None:
    """A project's calibrations by target id; a target whose pool is too small has none.

    Returns:
        None where nothing was ever fitted to this checkpoint's predictions.
    """
    note = store.note(f"scores:{project}")
    if note is None:
        return None
    kept = json.loads(note)
    if kept["checkpoint"] != checkpoint:
        return None
    return {target: Calibration(*curve) for target, curve in kept["curves"].items()}
