"""Interactive requests with something wrong in them: hints within the image and a mask, or a refusal in words."""

from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import given

from backend.errors import RegionError
from backend.interactive import hints
from backend.label_config import parse
from backend.protocol import SUGGESTED, PredictRequest
from model.cutting import cut_area, cut_clicked
from model.scene import Clicks
from tests.backend.attacks.fuzzing import inputs, recorded, trying, wrong

SHAPE = (24, 32)
PICTURE = np.random.default_rng(5).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
PICTURE[6:18, 8:24] = (200, 60, 50)
CONFIG = parse(
    next(body["label_config"] for body in recorded("/predict") if "smart" in (body.get("label_config") or ""))
)
REQUESTS: list[list[Any]] = [
    [request.interaction, request.tasks[0]]
    for request in map(PredictRequest.model_validate, recorded("/predict"))
    if request.interaction
]
ACCEPTED = {"id": "s", "origin": "prediction", "meta": {SUGGESTED: {"hints": ["opgb8wrIfW"]}}}
REQUESTS += [[REQUESTS[0][0], {"drafts": [{"result": [ACCEPTED]}]}]]


@inputs(800)
@given(spoiled=wrong(REQUESTS, most=5))
def test_hints_with_something_wrong_in_them_are_read_or_refused(spoiled: Any) -> None:
    with trying("interactive requests"):
        interaction, task = spoiled if isinstance(spoiled, list) and len(spoiled) == 2 else ([], {})
        regions = (
            [region for region in interaction if isinstance(region, dict)]
            if isinstance(interaction, list)
            else []
        )
        with suppress(RegionError):
            found = hints.read(regions, task if isinstance(task, dict) else {}, CONFIG, CONFIG.targets[:1])
            clicks = Clicks(found.points(SHAPE, wanted=True), found.points(SHAPE, wanted=False))
            for points in (clicks.inside, clicks.outside):
                assert ((points >= 0) & (points < (SHAPE[1], SHAPE[0]))).all()
            cut = [cut_clicked(PICTURE, clicks)]
            cut += [cut_area(PICTURE, area, clicks) for area in found.areas(SHAPE)]
            assert all(each is None or each.mask.shape == SHAPE for each in cut)
