"""Tiny objects: a prompt that takes the place of examples shows what these would show."""

from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend.settings import Settings
from model.edges import ProbabilityMap
from model.segmenter import Query
from tests.backend.stage import Run, Stage, brush, mask_of, png
from tests.backend.test_prompts import file_of
from tests.backend.test_tuning_gate import FOREVER, ask

Staging = Callable[..., Stage]
MIN_AREA = Settings.model_fields["min_area"].default
SPECKS = 6
SIDE = 1 / sqrt(120 * 160)  # of a speck


def specks(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """120 x 160 pixels with bright specks of one pixel each: a quarter of `MIN_AREA`."""
    random = np.random.default_rng(seed)
    image = random.integers(20, 60, (120, 160, 3)).astype(np.uint8)
    mask = np.zeros((120, 160), dtype=np.bool_)
    for place in range(SPECKS):
        row, column = 20 + 40 * (place // 3), 20 + 40 * (place % 3)
        mask[row + random.integers(20), column + random.integers(20)] = True
    image[mask] = [230, 200, 60]
    return image, mask


def bright(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
    """A network that is right."""
    return [np.where(query.image[..., 0] > 150, 0.95, 0.02).astype(np.float32) for query in queries]


def learnt(staging: Staging, **fields: Any) -> Stage:
    """A project whose label has tiny objects."""
    stage = staging(min_area=MIN_AREA, zoom="off", **fields)
    stage.segment_with(bright)
    for seed in range(4):
        stage.submit(stage.upload(specks(seed)[0]), brush(specks(seed)[1]))
    stage.work()
    return stage


def shown(stage: Stage) -> tuple[int, int]:
    """Of a new picture: by how many examples and prompts it is predicted, and how many pixels of the label are shown."""
    task = stage.upload(specks(50)[0])
    (answer,) = stage.predict(task)
    (record,) = stage.backend.store.predictions(stage.key, task)
    return len(record.context[stage.target]), sum(int(mask_of(one).sum()) for one in answer["result"])


def test_what_examples_show_of_tiny_objects_a_prompt_in_their_place_shows_too(staging: Staging) -> None:
    stage = learnt(staging, tune_gate=-1.0, tune_steps=1)
    assert shown(stage) == (4, SPECKS)
    assert stage.backend.tunings.run(ask(stage), FOREVER).moved is True
    assert shown(stage) == (1, SPECKS)
    assert stage.prompts[0].figures["object_side"] == pytest.approx(SIDE)
    copy = stage.backend.prompts.bring_in(stage.key, stage.backend.prompts.export(stage.key, 1))
    stage.backend.prompts.activate(stage.key, copy.number)
    assert shown(stage) == (1, SPECKS), "the file says it, too"


@pytest.mark.parametrize(
    "figures",
    [{}, {"object_side": None}, {"object_side": 0.0}, {"object_side": -SIDE}, {"object_side": 1e300}],
)
def test_a_file_that_does_not_say_how_small_objects_are_is_used_as_ever(
    staging: Staging, figures: dict[str, float | None]
) -> None:
    """Files of earlier backends do not, and a stranger's may say anything."""
    stage = learnt(staging)
    stage.backend.prompts.bring_in(stage.key, file_of(stage, figures=figures))
    stage.backend.prompts.activate(stage.key, 1)
    assert shown(stage) == (1, 0)


def test_a_prompt_that_segments_a_folder_shows_tiny_objects_too(
    run: Run, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "model.segmenter.Segmenter.maps",
        lambda _, queries: [
            ProbabilityMap(found, found.shape[0], found.shape[1]) for found in bright(queries)
        ],
    )
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "1.png").write_bytes(png(specks(50)[0]))
    for name, figures, wanted in (("told", {"object_side": SIDE}, SPECKS), ("untold", {}, 0)):
        file, out = tmp_path / f"{name}.safetensors", tmp_path / name
        file.write_bytes(file_of(stage, figures=figures))
        checkpoint = str(stage.settings.checkpoint)
        given = ("--prompt", str(file), "--checkpoint", checkpoint, "--out", str(out))
        code, _, err = run("predict", str(pictures), *given)
        assert (code, err) == (0, "")
        assert int((np.asarray(Image.open(out / "1.cell.png")) > 0).sum()) == wanted
