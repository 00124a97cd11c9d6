"""A probability map to what annotators see of it: score, regions and mask; knows no tasks and no store."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import regions
from backend.calibrations import Fitted
from backend.label_config import Target
from backend.settings import Settings
from backend.store.pictures import PREDICTION_SIDE, pack_mask
from model.edges import ProbabilityMap
from model.example import Context
from model.score import Absence, Calibration, expected_iou


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is shown of one target on one picture.

    Attributes:
        score: expected kept IoU, 0 to 1.
        regions: ready to send; empty where nothing is shown.
        mask: `[H, W]` bool, what the regions say, specks and corners left out; None where there are none.
    """

    score: float
    regions: list[dict[str, Any]]
    mask: NDArray[np.bool_] | None

    @property
    def packed(self) -> bytes | None:
        """The mask as predictions are recorded; None where nothing is shown."""
        return None if self.mask is None else pack_mask(self.mask, PREDICTION_SIDE)


def draw(
    likely: ProbabilityMap, target: Target, context: Context, fitted: Fitted, settings: Settings
) -> Drawn:
    """Draw a target by the settings and by what was fitted to scores.

    Args:
        likely: where the target is.
        target: what was looked for.
        context: what it was found by.
        fitted: of the project.
        settings: threshold, least area, instances, whether absent labels are hidden.
    """
    score, is_shown = expected(likely, target, context, fitted, settings)
    if not is_shown:
        return Drawn(score, [], None)
    found = regions.encode(
        likely.mask(settings.threshold),
        target,
        score=score,
        instances=settings.instances,
        min_area=context.least_area(settings.min_area),
        probability=likely.values,
    )
    if (
        not found
    ):  # specks, each below the least area: what is shown is nothing, and that is what is to be expected
        return Drawn(_sure_of_nothing(likely), [], None)
    return Drawn(score, found, regions.decode(found, target))


def expected(
    likely: ProbabilityMap, target: Target, context: Context, fitted: Fitted, settings: Settings
) -> tuple[float, bool]:
    """Expected kept IoU, 0 to 1, and whether the mask is shown; arguments as for `draw`."""
    mask = likely.values >= settings.threshold
    if not mask.any():  # that nothing is there is not what curves were fitted to
        return _sure_of_nothing(likely), False
    raw = expected_iou(likely.values, mask)
    rule = Absence() if context.prompt is not None else fitted.absences.get(target.id, Absence())
    if settings.hide_absent == "auto" and rule.hides(raw):
        return rule.score, False
    return fitted.curves.get(target.id, Calibration())(raw), True


def _sure_of_nothing(likely: ProbabilityMap) -> float:
    """Expected kept IoU of showing nothing."""
    return expected_iou(likely.values, np.zeros_like(likely.values, dtype=np.bool_))
