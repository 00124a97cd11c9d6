"""What people reported elsewhere about masks, scores and versions, as whole requests: G7 to G15."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import encode_rle
from numpy.typing import NDArray
from PIL import Image

from backend import regions
from backend.label_config import parse
from tests.backend.fake_label_studio import LABEL_CONFIG
from tests.backend.stage import Stage, blob, brush, encoded, iou, taught


@pytest.fixture
def colourful(stage: Stage) -> Stage:
    stage.segment_by_colour()
    return stage


# -- G7 ------------------------------------------------------------------------------------------------------------
def test_g7_a_turned_box_on_an_oblong_image_is_turned_in_pixels(colourful: Stage) -> None:
    config = LABEL_CONFIG.replace("BrushLabels", "RectangleLabels")
    colourful.label_studio.projects[colourful.project]["label_config"] = config
    image = np.full((500, 1000, 3), 30, np.uint8)
    image[100:400, 100:200] = [230, 200, 60]
    value = {"x": 20, "y": 20, "width": 30, "height": 20, "rotation": 90, "rectanglelabels": ["cell"]}
    region = {**brush(np.zeros((500, 1000), bool)), "type": "rectanglelabels", "value": value}
    colourful.submit(colourful.upload(image), region)
    colourful.work()
    exact = np.zeros((320, 640), bool)  # examples are stored at 640 px
    exact[64:256, 64:128] = True
    assert (taught(colourful)[0] == exact).all()
    (prediction,) = colourful.predict(colourful.upload(image))
    (box,) = prediction["result"]
    assert box["value"]["rotation"] == 0
    measured = [box["value"][name] for name in ("x", "y", "width", "height")]
    assert measured == pytest.approx([10, 20, 10, 60], abs=0.01)


# -- G8 ------------------------------------------------------------------------------------------------------------
def test_g8_a_coastline_with_specks_and_holes_comes_as_few_bounded_polygons(
    staging: Callable[..., Stage],
) -> None:
    stage = staging(min_area=0.0002)
    stage.segment_by_colour()
    config = LABEL_CONFIG.replace("BrushLabels", "PolygonLabels")
    stage.label_studio.projects[stage.project]["label_config"] = config
    random = np.random.default_rng(0)
    columns = np.arange(1200)
    shore = 300 + 60 * np.sin(columns / 90) + 15 * np.sin(columns / 17) + random.normal(0, 2, 1200)
    mask = np.arange(600)[:, None] > shore
    for y, x in ((450, 300), (500, 800)):
        mask[y - 20 : y + 20, x - 20 : x + 20] = False
    land = mask.copy()
    for y, x in zip(random.integers(0, 200, 300), random.integers(0, 1199, 300), strict=True):
        mask[y, x] = True
    image = np.full((600, 1200, 3), 30, np.uint8)
    image[mask] = [230, 200, 60]
    points = [[0, 55], [100, 55], [100, 90], [0, 90]]
    stage.submit(
        stage.upload(image),
        {**brush(mask), "type": "polygonlabels", "value": {"points": points, "polygonlabels": ["cell"]}},
    )
    stage.work()
    (prediction,) = stage.predict(stage.upload(image))
    assert 1 <= len(prediction["result"]) <= 5
    for region in prediction["result"]:
        outline = np.array(region["value"]["points"])
        assert 3 <= len(outline) <= 400
        assert outline.min() >= 0
        assert outline.max() <= 100
    union = regions.decode(prediction["result"], parse(config).targets[0])
    assert union is not None
    assert iou(union, land) >= 0.95


# -- G9 ------------------------------------------------------------------------------------------------------------
def test_g9_every_prediction_has_a_finite_score_an_empty_one_too(colourful: Stage) -> None:
    colourful.approve(1)
    nothing = colourful.upload(np.full((48, 64, 3), 30, np.uint8))
    results = colourful.predict(*colourful.blobs(2, first=2), nothing)
    assert [bool(prediction["result"]) for prediction in results] == [True, True, False]
    scores = [prediction["score"] for prediction in results]
    scores += [region["score"] for prediction in results for region in prediction["result"]]
    assert len(scores) == 5
    assert all(isinstance(score, float) and math.isfinite(score) and 0 <= score <= 1 for score in scores)
    assert scores[2] > scores[0]  # nothing there is surer here than where exactly something is


# -- G10 -----------------------------------------------------------------------------------------------------------
def test_g10_the_version_is_the_same_after_a_restart_and_from_every_process(
    staging: Callable[..., Stage],
) -> None:
    one = staging()
    cold = one.setup()
    one.approve(1)
    version = one.setup()
    assert version != cold
    two = staging()  # another process with the same store
    (task,) = one.blobs(1, first=2)
    versions = [stage.predict(task)[0]["model_version"] for stage in (one, two, one, two)]
    assert versions == [version] * 4
    assert two.setup() == one.setup() == version
    assert two.client.get("/versions").json() == {"versions": [version]}
    assert two.ask(task).json()["model_version"] == version


def test_g10_the_version_moves_when_and_only_when_what_is_learned_changed(
    staging: Callable[..., Stage],
) -> None:
    one, two = staging(), staging()
    annotation = one.approve(1)
    before = two.setup()
    one.correct(annotation, brush(blob(1)[1]))
    one.work()
    assert two.setup() == before
    one.delete(annotation)
    one.work()
    assert two.setup() == one.setup() != before


# -- G11 -----------------------------------------------------------------------------------------------------------
def kinds_of_images() -> dict[str, bytes]:
    image, _ = blob(3)
    grey = Image.fromarray(image).convert("L")
    deep = Image.fromarray((800 + np.asarray(grey).astype(np.uint16) * 2).astype(np.uint16))
    palette = Image.fromarray(image).quantize(16)
    clear = Image.fromarray(np.dstack([image, np.full(image.shape[:2], 99, np.uint8)]))
    pages = [Image.fromarray(blob(seed)[0]) for seed in (4, 5)]
    return {
        "16-bit PNG": encoded(deep, "PNG"),
        "1-bit PNG": encoded(grey.point(lambda level: 255 * (level > 127)).convert("1"), "PNG"),
        "LA PNG": encoded(clear.convert("LA"), "PNG"),
        "RGBA PNG": encoded(clear, "PNG"),
        "CMYK JPEG": encoded(Image.fromarray(image).convert("CMYK"), "JPEG"),
        "palette PNG": encoded(palette, "PNG", transparency=3),
        "16-bit TIFF": encoded(deep, "TIFF"),
        "multi-page TIFF": encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]),
        "animated WebP": encoded(pages[0], "WEBP", save_all=True, append_images=pages[1:], duration=100),
    }


@pytest.mark.parametrize("kind", kinds_of_images())
def test_g11_images_of_every_kind_are_predicted_at_their_own_size(colourful: Stage, kind: str) -> None:
    colourful.approve(1)
    content = kinds_of_images()[kind]
    good = colourful.label_studio.add_task(colourful.project, content)
    bad = colourful.label_studio.add_task(colourful.project, content[: len(content) // 9])
    everything = [np.ones((48, 64), np.float32)]
    colourful.segment_with(lambda _: everything.copy())
    prediction, nothing = colourful.predict(good, bad)
    (region,) = prediction["result"]
    assert (region["original_width"], region["original_height"]) == (64, 48)
    assert nothing == []


# -- G12 -----------------------------------------------------------------------------------------------------------
def test_g12_masks_named_by_a_separate_labels_tag_are_learned_and_predicted_with_their_name(
    colourful: Stage,
) -> None:
    colourful.label_studio.projects[colourful.project]["label_config"] = (
        '<View><Image name="i" value="$image"/><Brush name="b" toName="i"/>'
        '<Labels name="l" toName="i"><Label value="cell"/></Labels></View>'
    )
    image, mask = blob(1)
    drawn = brush(mask, control="b", image="i") | {"type": "brush", "id": "one"}
    del drawn["value"]["brushlabels"]
    named = {**drawn, "from_name": "l", "type": "labels", "value": {"labels": ["cell"]}}
    colourful.submit(colourful.upload(image), drawn, named)
    colourful.work()
    assert (taught(colourful)[0] == mask).all()
    (prediction,) = colourful.predict(*colourful.blobs(1, first=2))
    geometry, name = prediction["result"]
    assert geometry["id"] == name["id"]
    assert (geometry["from_name"], geometry["type"], geometry["origin"]) == ("b", "brush", "prediction")
    assert (name["from_name"], name["type"], name["value"]["labels"]) == ("l", "labels", ["cell"])


# -- G13 -----------------------------------------------------------------------------------------------------------
def test_g13_an_update_replaces_an_unchanged_one_does_nothing_and_an_emptied_one_removes(
    stage: Stage,
) -> None:
    image, big = blob(1)
    small = big & (np.cumsum(big).reshape(big.shape) <= 100)
    task = stage.upload(image)
    annotation = stage.submit(task, brush(big))
    stage.work()
    versions = [stage.setup()]
    for result in ([brush(small)], [brush(small)], []):
        stage.correct(annotation, *result)
        stage.work()
        versions.append(stage.setup())
        assert [mask.sum() for mask in taught(stage)] == ([100] if result else [])
    assert versions[0] != versions[1] == versions[2] != versions[3]
    people = [stage.submit(task, brush(mask), completed_by=who) for who, mask in ((1, big), (2, small))]
    stage.work()
    assert stage.pool == people


# -- G14 -----------------------------------------------------------------------------------------------------------
def painted(alpha: NDArray[np.uint8]) -> dict[str, Any]:
    region = brush(alpha > 0)
    region["value"]["rle"] = encode_rle(np.repeat(alpha, 4, axis=1).reshape(-1))  # type: ignore[no-untyped-call]
    return region


def test_g14_half_transparent_strokes_are_cut_at_one_threshold_for_learning_and_kept_iou(
    colourful: Stage,
) -> None:
    first = colourful.approve(1)
    image, _ = blob(2)
    alpha = np.zeros((48, 64), np.uint8)
    for row, level in enumerate((255, 128, 127, 60, 1)):
        alpha[row * 8 : row * 8 + 8] = level
    task = colourful.upload(image)
    colourful.segment_with(lambda _: [(alpha > 127).astype(np.float32)])
    colourful.predict(task)
    colourful.submit(task, painted(alpha))
    colourful.work()
    assert (taught(colourful)[1] == (alpha > 127)).all()
    assert [kept.iou for kept in colourful.backend.store.kept(colourful.key)] == [1.0]
    traces = colourful.submit(colourful.upload(image), painted(np.full((48, 64), 60, np.uint8)))
    colourful.work()
    assert traces not in colourful.pool
    assert first in colourful.pool
    assert colourful.backend.store.pending_events() == []


# -- G15 -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_g15_any_number_of_examples_gives_one_result_a_task_of_any_shape(stage: Stage, count: int) -> None:
    """With the real network: no shape is guessed from a 3."""
    for seed in range(count):
        image, mask = blob(seed)
        stage.submit(stage.upload(image), brush(mask))
    stage.work()
    shapes = [(3, 50), (50, 3), (40, 400), (48, 64)]
    random = np.random.default_rng(0)
    tasks = [stage.upload(random.integers(0, 255, (*shape, 3)).astype(np.uint8)) for shape in shapes]
    found: list[tuple[int, tuple[int, ...]]] = []
    really = stage.backend.segmenter.maps

    def segment(queries: Any) -> Any:
        maps = [map_.whole() for map_ in really(queries)]
        found.extend((len(query.context), map_.shape) for query, map_ in zip(queries, maps, strict=True))
        return maps

    stage.segment_with(segment)
    results = stage.predict(*tasks)
    assert all(isinstance(prediction, dict) for prediction in results)
    assert found == [(count, shape) for shape in shapes]


def test_g15_the_order_of_approvals_does_not_change_a_prediction(
    staging: Callable[..., Stage], tmp_path: Path
) -> None:
    maps: list[NDArray[np.float32]] = []
    for number, order in enumerate(((1, 2, 3), (3, 1, 2))):
        stage = staging(folder=tmp_path / str(number))
        stage.project = stage.label_studio.add_project()
        for seed in order:
            image, mask = blob(seed)
            stage.submit(stage.upload(image), brush(mask))
        stage.work()
        task = stage.upload(blob(9)[0])
        really = stage.backend.segmenter.maps

        def segment(queries: Any, really: Any = really) -> Any:
            maps.extend(found := [map_.whole() for map_ in really(queries)])
            return found

        stage.segment_with(segment)
        stage.predict(task)
    assert np.abs(maps[0] - maps[1]).max() < 1e-5
