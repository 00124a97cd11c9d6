"""Interactive requests whose image was replaced, or whose ids no answer can hold."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from model.segmenter import Query
from tests.backend.loopback import Answer
from tests.backend.stage import Stage, by_colour, iou, mask_of, png
from tests.backend.test_interactive import CONFIG, PICTURE, approve, ask, click, told
from tests.model.drawn_objects import RED, disc, painted


@pytest.fixture
def smart(staging: Callable[..., Stage]) -> Stage:
    """A project with smart tools that keeps no decoded image."""
    stage = staging(image_cache_bytes=0)
    stage.label_studio.projects[stage.project]["label_config"] = CONFIG
    stage.setup()
    stage.segment_by_colour()
    return stage


def test_a_file_replaced_under_its_address_is_looked_at_anew(smart: Stage) -> None:
    approve(smart)
    task = smart.upload(PICTURE)
    looked_at: list[NDArray[np.uint8]] = []

    def noting(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        looked_at.extend(query.image for query in queries)
        return by_colour(queries)

    smart.segment_with(noting)
    for number in ("a", "b"):
        assert ask(smart, task, click(number, 65, 65))["result"]
    assert len(looked_at) == 1
    cell = disc(150, 120, 36)
    address = smart.label_studio.tasks[task]["data"]["image"]
    replaced = painted([(cell, RED)], seed=8)
    smart.label_studio.uploads[address] = Answer(200, png(replaced), {"Content-Type": "image/png"})
    (region,) = ask(smart, task, click("c", 150, 120))["result"]
    assert (looked_at[-1] == replaced).all()
    assert iou(mask_of(region), cell) > 0.9


def test_an_id_with_half_a_surrogate_pair_is_answered_without_it(smart: Stage) -> None:
    body = {
        "tasks": [smart.label_studio.tasks[smart.upload(PICTURE)]], "project": smart.key, "label_config": CONFIG,
        "params": {"context": {"result": [click("\ud800", 65, 65)]}},
    }  # fmt: skip
    answer = smart.client.post(
        "/predict", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    (region,) = answer.json()["results"][0]["result"]
    assert told(region)["hints"] == []
