"""Small objects: how near to look, where, by what, and what is made of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model import zoom
from model.edges import ProbabilityMap
from model.evaluation import evaluate_folder
from model.example import SPECK, Context, Example, Mask, Prompt
from model.frames import Frame
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter
from tests.model.conftest import SMALL
from tests.model.test_evaluation import write

NETWORK = SMALL.image_size
OBJECT = zoom.PATCHES * SMALL.patch_size / NETWORK  # side that is seen well, of a picture's
GREY, RED = 90, (220, 30, 30)


class RedReader(Segmenter):
    """Finds what is red as well as its network's few pixels allow, and keeps what it was asked.

    Where nothing is red it finds something in the middle all the same, as networks do that were trained on pictures
    that hold what is looked for.
    """

    def __init__(self, model: SegGPT) -> None:
        super().__init__(model, name="red")
        self.asked: list[Query] = []

    def maps(self, queries: Sequence[Query]) -> list[ProbabilityMap]:
        self.asked += queries
        found = []
        for query in queries:
            red = (query.image[:, :, 0] > 150).astype(np.float32)
            values = shrunk(red)
            if not red.any():
                values[NETWORK // 2 - 3 : NETWORK // 2 + 3, NETWORK // 2 - 3 : NETWORK // 2 + 3] = 1
            found.append(ProbabilityMap(values, red.shape[0], red.shape[1]))
        return found


def shrunk(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means at the network's size."""
    return np.asarray(cv2.resize(values, (NETWORK, NETWORK), interpolation=cv2.INTER_AREA), dtype=np.float32)


def squares(shape: tuple[int, int], side: int, *corners: tuple[int, int]) -> Mask:
    mask = np.zeros(shape, dtype=np.bool_)
    for top, left in corners:
        mask[top : top + side, left : left + side] = True
    return mask


def painted(mask: Mask, key: str = "example") -> Example:
    image = np.full((*mask.shape, 3), GREY, dtype=np.uint8)
    image[mask] = RED
    return Example(key, image, mask)


def twice(mask: Mask) -> Context:
    return Context((painted(mask), painted(mask, "another")))


def iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.fixture
def reader(small_model: SegGPT) -> RedReader:
    return RedReader(small_model)


# -- how large objects are -----------------------------------------------------------------------------------------
def test_the_side_of_a_typical_object_is_that_of_those_with_half_of_the_area() -> None:
    assert painted(squares((100, 100), 20, (5, 5))).object_side == pytest.approx(0.2)
    many = squares((100, 100), 10, *[(row, column) for row in (5, 35, 65) for column in (5, 35, 65)])
    assert painted(many).object_side == pytest.approx(0.1)
    specks = squares((100, 100), 20, (5, 5)) | squares((100, 100), 1, *[(60, at) for at in range(0, 99, 2)])
    assert painted(specks).object_side == pytest.approx(0.2), "specks do not count"
    assert painted(squares((100, 400), 20, (5, 5))).object_side == pytest.approx(0.1), (
        "of the root of the area"
    )
    assert painted(squares((100, 100), 1)).object_side == 0


def test_a_context_goes_by_the_median_of_its_examples_that_show_something() -> None:
    examples = [painted(squares((100, 100), side, (5, 5))) for side in (10, 20, 80)]
    assert Context((*examples, painted(squares((100, 100), 1)))).object_side == pytest.approx(0.2)
    assert Context((painted(squares((100, 100), 1)),)).object_side == 0
    assert Context().object_side == 0


def test_the_least_object_is_a_quarter_of_a_typical_one_where_objects_are_small() -> None:
    """With the default of two ten-thousandths every object of 10 pixels on 1000 x 1000 was dropped as a speck."""
    small = Context((painted(squares((1000, 1000), 10, (5, 5))),))
    assert small.least_area(0.0002) == pytest.approx(SPECK * 0.0001)
    large = Context((painted(squares((100, 100), 50, (5, 5))),))
    assert large.least_area(0.0002) == 0.0002
    assert large.least_area(0.5) == 0.5, "somebody's wish"
    assert Context().least_area(0.0002) == 0.0002


# -- whether to look again -----------------------------------------------------------------------------------------
def look(reader: Segmenter, mask: Mask, picture: NDArray[np.uint8], **context: object) -> zoom.Look | None:
    query = Query(picture, replace(twice(mask), **context))  # type: ignore[arg-type]
    everywhere = ProbabilityMap(np.ones((NETWORK, NETWORK), np.float32), picture.shape[0], picture.shape[1])
    return zoom.plan(reader, query, everywhere)


def test_pictures_are_looked_at_again_where_objects_are_small(reader: RedReader) -> None:
    """Sides of a picture of 400: at `OBJECT` they are seen well, below that by `WORTH` they are not."""
    picture = np.full((400, 400, 3), GREY, dtype=np.uint8)
    seen = round(400 * OBJECT)
    assert look(reader, squares((400, 400), seen, (0, 0)), picture) is None
    assert look(reader, squares((400, 400), int(seen / zoom.WORTH) + 1, (0, 0)), picture) is None
    assert look(reader, squares((400, 400), int(seen / zoom.WORTH) - 1, (0, 0)), picture) is not None


def test_the_smaller_objects_are_the_nearer_is_the_look_up_to_a_bound(reader: RedReader) -> None:
    picture = np.full((800, 800, 3), GREY, dtype=np.uint8)
    counts = []
    for side in (300, 200, 120, 30, 6):
        found = look(reader, squares((800, 800), side, (0, 0)), picture)
        assert found is not None
        counts.append(len(found.tiles))
        if side > 100:
            assert side / found.tiles[0].width >= OBJECT * 0.99, "an object spans what it should"
    assert counts == sorted(counts)
    assert counts[0] == 4
    assert counts[-1] == zoom.MOST_TILES


@pytest.mark.parametrize("shape", [(60, 6000), (6000, 60), (64, 64), (33, 2000)])
def test_the_bound_holds_for_pictures_of_any_shape(reader: RedReader, shape: tuple[int, int]) -> None:
    found = look(reader, squares((400, 400), 8, (0, 0)), np.full((*shape, 3), GREY, dtype=np.uint8))
    assert found is None or len(found.tiles) <= zoom.MOST_TILES


def test_what_has_no_more_pixels_to_show_is_not_enlarged(reader: RedReader) -> None:
    small = squares((NETWORK, NETWORK), 2, (0, 0))
    fine = squares((400, 400), 20, (0, 0))
    picture = np.full((400, 400, 3), GREY, dtype=np.uint8)
    found = look(reader, small, picture)
    assert found is not None
    assert found.queries[0].context.examples[0].mask.shape[0] >= zoom.SHARP * NETWORK
    assert look(reader, fine, picture[: NETWORK // 2, : NETWORK // 2]) is None, "the query"
    tiny = squares((NETWORK // 2, NETWORK // 2), 1, (0, 0))
    assert look(reader, tiny, picture) is None, "the only example"


def test_contexts_that_say_little_of_parts_are_left_as_they_are(reader: RedReader) -> None:
    learned = np.zeros((3, NETWORK, NETWORK), dtype=np.float32)
    picture = np.full((400, 400, 3), GREY, dtype=np.uint8)
    mask = squares((400, 400), 20, (0, 0))
    assert look(reader, mask, picture) is not None
    assert look(reader, mask, picture, prompt=Prompt("p", learned, learned)) is None
    assert look(reader, squares((400, 400), 1), picture) is None, "nothing to go by"
    assert look(reader, mask, picture, examples=(painted(mask),)) is None, "a single example"


def test_only_tiles_are_looked_at_in_which_the_first_look_sees_something(reader: RedReader) -> None:
    picture = np.full((400, 400, 3), GREY, dtype=np.uint8)
    query = Query(picture, twice(squares((400, 400), 20, (0, 0))))
    values = np.zeros((NETWORK, NETWORK), np.float32)
    assert zoom.plan(reader, query, ProbabilityMap(values, 400, 400)) is None
    values[NETWORK - 1, 0] = zoom.HINT
    found = zoom.plan(reader, query, ProbabilityMap(values, 400, 400))
    assert found is not None
    assert [(tile.bottom, tile.left) for tile in found.tiles] == [(400, 0)]


# -- geometry ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(300, 400), (1, 900), (900, 1), (97, 101), (1, 1), (3000, 4000)])
@pytest.mark.parametrize("scale", [1.0, 1.75, 2.5, 4.75])
def test_tiles_cover_a_picture_and_overlap(shape: tuple[int, int], scale: float) -> None:
    tiles = zoom.cover(shape, scale)
    seen = np.zeros(shape, dtype=np.uint8)
    for tile in tiles:
        assert 0 <= tile.top < tile.bottom <= shape[0]
        assert 0 <= tile.left < tile.right <= shape[1]
        assert (tile.height, tile.width) == (tiles[0].height, tiles[0].width)
        seen[tile.slices] = 1
    assert seen.all()
    lefts = sorted({tile.left for tile in tiles})
    steps = np.diff(lefts)
    assert len(steps) == 0 or steps.max() <= max(1, tiles[0].width * (1 - zoom.OVERLAP) + 1)


def test_so_many_tiles_along_a_side_reach_a_magnification_and_no_more_are_taken() -> None:
    for number in range(2, zoom.MOST_ACROSS + 1):
        assert zoom.across(zoom.reached(number)) == number
        assert len(zoom.cover((1000, 1000), zoom.reached(number))) == number**2
    assert zoom.across(1.0) == 1


def test_a_close_up_shows_an_object_in_its_middle_or_at_the_pictures_edge() -> None:
    middle = zoom.close_up(painted(squares((400, 400), 20, (200, 240))), 4.0)
    assert middle.mask.shape == (100, 100)
    assert middle.mask[40:60, 40:60].all()
    assert middle.mask.sum() == 400
    assert (middle.image[middle.mask] == RED).all()
    edge = zoom.close_up(painted(squares((400, 400), 20, (0, 380))), 4.0)
    assert edge.mask[:20, 80:].all()
    assert edge.key != middle.key


def test_of_scattered_objects_a_close_up_shows_as_much_as_it_can() -> None:
    corners = [(10, 10), (300, 300), (300, 330), (330, 300), (330, 330)]
    seen = zoom.close_up(painted(squares((400, 400), 20, *corners)), 4.0)
    assert seen.mask.sum() == 4 * 400
    line = np.zeros((50, 4000), dtype=np.bool_)
    line[24:26] = True
    assert zoom.close_up(painted(line), 2.0).mask.sum() >= 2 * 200, "larger than any tile"


# -- what is made of it --------------------------------------------------------------------------------------------
def test_a_nearer_look_finds_small_objects_that_the_whole_shows_as_a_blur(reader: RedReader) -> None:
    wanted = squares((512, 512), 20, (90, 333), (401, 55), (251, 260))
    query = Query(painted(wanted).image, twice(squares((512, 512), 20, (30, 30))))
    (before,), (after,) = reader.maps([query]), zoom.maps(reader, [query])
    assert iou(after.mask(0.5), wanted) > iou(before.mask(0.5), wanted) + 0.2
    assert iou(after.mask(0.5), wanted) > 0.8
    assert (after.height, after.width) == (512, 512)


def test_what_a_tile_finds_where_the_first_look_sees_nothing_is_not_believed(reader: RedReader) -> None:
    """The reader finds something in the middle of every tile without red: seven of these nine are looked at."""
    picture = painted(squares((512, 512), 20, (90, 333))).image
    query = Query(picture, twice(squares((512, 512), 80, (30, 30))))
    first = ProbabilityMap(np.full((NETWORK, NETWORK), zoom.HINT * 0.99, np.float32), 512, 512)
    for tile in range(0, NETWORK, 4):
        first.values[tile, tile] = zoom.HINT
    found = zoom.plan(reader, query, first)
    assert found is not None
    joined = zoom.joined(found, reader.maps(found.queries), first)
    assert joined.values.max() < 0.55
    assert (joined.values >= 0.5).mean() < 0.05
    sure = replace(first, values=np.ones((NETWORK, NETWORK), np.float32))
    assert (zoom.joined(found, reader.maps(found.queries), sure).values >= 0.5).mean() > 0.05


def test_where_no_tile_was_looked_at_the_first_look_stands() -> None:
    values = np.linspace(0, 1, NETWORK * NETWORK, dtype=np.float32).reshape(NETWORK, NETWORK)
    first = ProbabilityMap(values, 400, 400)
    tile = Frame(0, 0, 100, 100)
    look = zoom.Look(np.zeros((400, 400, 3), np.uint8), (tile,), ())
    joined = zoom.joined(look, [ProbabilityMap(np.zeros((NETWORK, NETWORK), np.float32), 100, 100)], first)
    assert joined.values.shape == (4 * NETWORK, 4 * NETWORK)
    assert np.abs(joined.whole() - first.whole())[110:].max() < 0.02
    assert joined.values[: NETWORK // 2, : NETWORK // 2].max() < first.values.max() / 4


def test_the_seams_of_tiles_do_not_show() -> None:
    """All tiles see the same slope: what is joined is that slope, within what the enlargement of maps rounds."""
    first = ProbabilityMap(np.ones((NETWORK, NETWORK), np.float32), 400, 600)
    slope = np.tile(np.linspace(0, 1, 600, dtype=np.float32), (400, 1))
    tiles = tuple(zoom.cover((400, 600), 2.5))
    look = zoom.Look(np.zeros((400, 600, 3), np.uint8), tiles, ())
    found = [ProbabilityMap(shrunk(slope[tile.slices]), tile.height, tile.width) for tile in tiles]
    joined = zoom.joined(look, found, first).whole()
    assert np.abs(joined - slope)[:, 10:-10].max() < 0.06
    assert np.abs(np.diff(joined, axis=1)).max() < 0.02


def test_large_objects_and_empty_calls_cost_nothing_more(
    reader: RedReader, draw: Callable[..., Example]
) -> None:
    assert zoom.maps(reader, []) == []
    query = Query(draw(1, 300, 300).image, twice(squares((300, 300), 200, (20, 20))))
    zoom.maps(reader, [query, query])
    assert reader.asked == [query, query]


def test_tiles_of_a_deep_picture_are_stretched_alike(small_model: SegGPT) -> None:
    """A 16-bit picture is stretched as a whole; a tile by itself would be stretched to other levels."""
    segmenter = Segmenter(small_model)
    deep = np.linspace(1000, 3000, 400 * 400).reshape(400, 400).astype(np.uint16)
    query = Query(deep, twice(squares((400, 400), 20, (0, 0))))
    found = zoom.plan(segmenter, query, ProbabilityMap(np.ones((NETWORK, NETWORK), np.float32), 400, 400))
    assert found is not None
    assert found.queries[0].image.dtype == np.uint8
    assert int(found.queries[0].image.max()) < 255
    assert int(found.queries[-1].image.min()) > 0
    assert found.picture.max() == 255
    assert len(zoom.maps(segmenter, [query])) == 1


def test_an_evaluation_can_look_nearer_and_its_form_stays(reader: RedReader, tmp_path: Path) -> None:
    for number in range(3):
        mask = squares((256, 256), 16, (20 + 40 * number, 30), (180, 200 - 50 * number))
        write(tmp_path / "spots", f"picture {number}", mask, mask.astype(np.uint8))
    rows = {}
    for nearer in (False, True):
        (row,) = evaluate_folder(tmp_path / "spots", reader, [2], nearer=nearer).rows
        rows[nearer] = row
    assert rows[True].miou > rows[False].miou + 0.1
    assert rows[True].to_json().keys() == rows[False].to_json().keys()
    assert rows[True].method == "context"
