"""The alarm: its arithmetic by hand, who is tried on whom, and wrong masks among drawn ones with the real checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model import poison
from model.evaluation import EvaluationError
from model.example import Example, Mask
from model.seggpt import SegGPT
from model.segmenter import Query, Segmenter


class Painter(Segmenter):
    """Finds the same mask on every picture: that of the one example it is given. It keeps who was tried on whom."""

    def __init__(self, model: SegGPT) -> None:
        super().__init__(model, name="painter")
        self.asked: list[tuple[str, NDArray[np.uint8]]] = []

    def segment(self, queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        assert all(len(query.context.examples) == 1 for query in queries)
        examples = [query.context.examples[0] for query in queries]
        self.asked += [(example.key, query.image) for example, query in zip(examples, queries, strict=True)]
        return [np.float32(0.9) * example.mask + np.float32(0.05) for example in examples]


@pytest.fixture
def painter(small_model: SegGPT) -> Painter:
    return Painter(small_model)


def columns(number: int, low: int, high: int) -> Example:
    """A picture of one brightness, its number, with a mask of some of its 32 columns."""
    mask = np.zeros((32, 32), dtype=np.bool_)
    mask[:, low:high] = True
    return Example(f"columns/{number}", np.full((32, 32, 3), number, dtype=np.uint8), mask)


def test_each_is_measured_by_each_of_the_others(painter: Painter) -> None:
    """Of columns 0-16, 0-16, 0-8 and 16-32: overlaps 1, 1/2 and 0; what three others find is the mean of their maps."""
    pool = [columns(0, 0, 16), columns(1, 0, 16), columns(2, 0, 8), columns(3, 16, 32)]
    first, second, half, other = poison.examine(pool, painter)
    assert [each.key for each in (first, second, half, other)] == [example.key for example in pool]
    assert first.found == first.finds == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert second == replace(first, key="columns/1")
    assert half.found == half.finds == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert other.found == other.finds == other.agrees == 0
    # Only on the last picture do the two others agree, on columns 0-16; a tie is below the threshold.
    assert half.agrees == pytest.approx((0 + 0 + 1 / 2) / 3)
    assert len(painter.asked) == 4 * 3
    assert all(key != f"columns/{picture[0, 0, 0]}" for key, picture in painter.asked)


def test_agreement_is_with_the_mean_of_the_rest() -> None:
    maps = np.zeros((3, 2, 4), dtype=np.float32)
    maps[0, :, :2] = 1
    maps[1, :, :1] = 1
    maps[2, :, 3:] = 1
    assert poison.agreements(maps) == [0, 0, 0], "half of the rest is not more than the threshold"
    maps[1] = maps[0]
    assert poison.agreements(maps) == [0, 0, 0]
    maps[2, :, :1] = 0.6
    assert poison.agreements(maps) == pytest.approx([1 / 2, 1 / 2, 2 / 4 / 1.5])
    assert poison.agreements(maps[:1]) == [1]


def keys(count: int) -> list[str]:
    return [f"example {number}" for number in range(count)]


def suspects(found: Sequence[float], agrees: Sequence[float]) -> list[int]:
    judged = poison.judge(keys(len(found)), found, [0.5] * len(found), agrees)
    assert all(bool(each.reason) == each.suspicious for each in judged)
    return [place for place, each in enumerate(judged) if each.suspicious]


def test_a_mask_that_finds_something_else_is_suspicious() -> None:
    """Usual are 0.5 and 0.8: a third of 0.8 is 0.267, however well the mask is found."""
    found, agrees = [0.5, 0.5, 0.6, 0.4, 0.5], [0.8, 0.8, 0.9, 0.7, 0.8]
    assert suspects(found, agrees) == []
    assert suspects(found, [0.26, *agrees[1:]]) == [0]
    assert suspects(found, [0.27, *agrees[1:]]) == []
    assert suspects(found, [0.1, 0.1, *agrees[2:]]) == [0, 1]


def test_a_mask_that_nobody_finds_is_suspicious_unless_it_finds_as_others_do() -> None:
    """Usual are 0.5 and 0.8: a fortieth of their product is 0.01."""
    found, agrees = [0.5, 0.5, 0.6, 0.4, 0.5], [0.8, 0.8, 0.9, 0.7, 0.8]
    assert suspects([0.019, *found[1:]], [0.5, *agrees[1:]]) == [0]
    assert suspects([0.021, *found[1:]], [0.5, *agrees[1:]]) == []
    assert suspects([0.02, *found[1:]], agrees) == [], "of a hard picture, but it harms nobody"


def test_what_is_low_everywhere_is_usual() -> None:
    assert suspects([0.02] * 6, [0.25] * 6) == []
    assert suspects([0.0] * 6, [0.0] * 6) == []
    assert suspects([1.0] * 6, [1.0] * 6) == []


def test_where_examples_do_not_agree_nobody_strays() -> None:
    assert suspects([0.5] * 5, [0.21, 0.21, 0.21, 0.21, 0.0]) == [4]
    assert suspects([0.5] * 5, [0.19, 0.19, 0.19, 0.19, 0.0]) == []


def test_three_are_too_few_to_tell_who_is_wrong(painter: Painter) -> None:
    assert suspects([0.6, 0.6, 0.0], [0.8, 0.8, 0.0]) == []
    assert suspects([0.6, 0.6, 0.6, 0.0], [0.8, 0.8, 0.8, 0.0]) == [3]
    pair = poison.examine([columns(0, 0, 16), columns(1, 0, 8)], painter)
    assert [(each.found, each.finds, each.agrees) for each in pair] == [(0.5, 0.5, 1.0)] * 2
    with pytest.raises(EvaluationError, match="two"):
        poison.examine([columns(0, 0, 16)], painter)
    with pytest.raises(ValueError, match="at_most"):
        poison.examine([columns(0, 0, 16), columns(1, 0, 8)], painter, at_most=0)


def test_a_reason_tells_the_figures_and_what_is_usual() -> None:
    judged = poison.judge(keys(4), [0.6, 0.02, 0.7, 0.6], [0.5, 0.1, 0.5, 0.5], [0.8, 0.07, 0.9, 0.8])
    assert [each.suspicious for each in judged] == [False, True, False, False]
    assert all(figure in judged[1].reason for figure in ("0.02", "0.60", "0.07", "0.80"))
    assert judged[1].finds == 0.1
    assert "\n" not in judged[1].reason


@pytest.mark.parametrize(("count", "at_most", "times"), [(5, 3, 3), (12, 4, 4), (6, 99, 5)])
def test_work_is_bounded_and_evenly_shared(painter: Painter, count: int, at_most: int, times: int) -> None:
    """Every picture is looked at, and every example tried, equally often: no figure rests on fewer than another."""
    poison.examine([columns(number, 0, 16) for number in range(count)], painter, at_most)
    assert len({(key, int(picture[0, 0, 0])) for key, picture in painter.asked}) == count * times
    assert len(painter.asked) == count * times
    for number in range(count):
        assert sum(key == f"columns/{number}" for key, _ in painter.asked) == times
        assert sum(picture[0, 0, 0] == number for _, picture in painter.asked) == times


def test_progress_counts_pictures_and_may_end_it(painter: Painter) -> None:
    pool = [columns(number, 0, 16) for number in range(11)]
    calls: list[tuple[int, int]] = []
    poison.examine(pool, painter, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (110, 110)
    assert calls == sorted(set(calls))
    assert calls[0] == (poison.AT_ONCE, 110)
    painter.asked.clear()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        poison.examine(pool, painter, progress=stop)
    assert len(painter.asked) == poison.AT_ONCE


def test_large_pictures_are_resized_once(painter: Painter) -> None:
    large = [
        Example(str(number), np.full((90, 150, 3), number, dtype=np.uint8), np.eye(90, 150) > 0)
        for number in range(4)
    ]
    assert [each.found for each in poison.examine(large, painter)] == [1.0] * 4
    assert {picture.shape for _, picture in painter.asked} == {(32, 32, 3)}


def test_the_order_of_a_pool_changes_no_figure(segmenter: Segmenter, draw: Callable[..., Example]) -> None:
    pool = [draw(number, 40 + number, 56) for number in range(5)]
    forward = {each.key: each for each in poison.examine(pool, segmenter)}
    backward = {each.key: each for each in poison.examine(pool[::-1], segmenter)}
    for key, each in forward.items():
        assert each.found == pytest.approx(backward[key].found, abs=1e-3)
        assert each.finds == pytest.approx(backward[key].finds, abs=1e-3)
        assert each.agrees == pytest.approx(backward[key].agrees, abs=1e-3)


@pytest.fixture(scope="module")
def embedded() -> Segmenter:
    return Segmenter.load("embedded", "cpu")


def scene(number: int) -> tuple[Example, Mask]:
    """A red disc, which is the target, and a blue one, whose mask comes second, on grey of some brightness."""
    random = np.random.default_rng(number)
    image = random.integers(100, 130, (120, 160, 3)).astype(np.uint8)
    rows, right = np.mgrid[:120, :160]
    places = random.permutation([(35, 40), (35, 120), (90, 80)])[:2]
    target, neighbour = (
        np.hypot(rows - row, right - column) < random.uniform(20, 28) for row, column in places
    )
    image[target] = (230, 30, 30)
    image[neighbour] = (30, 30, 230)
    return Example(f"scene/{number}", image, target), neighbour


def drawn_pool(count: int) -> list[Example]:
    return [scene(number)[0] for number in range(count)]


def test_a_clean_pool_raises_no_alarm(embedded: Segmenter) -> None:
    assert not any(each.suspicious for each in poison.examine(drawn_pool(6), embedded))


WRONG: dict[str, Callable[[Mask, Mask], Mask]] = {
    "the neighbour": lambda target, neighbour: neighbour,
    "inverted": lambda target, neighbour: ~target,
    "shifted": lambda target, neighbour: np.roll(target, 80, axis=1),
    "everything": lambda target, neighbour: np.ones_like(target),
    "a speck": lambda target, neighbour: np.arange(target.size).reshape(target.shape) < 3,
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_mask_is_named_and_no_other(embedded: Segmenter, kind: str) -> None:
    pool = drawn_pool(5)
    pool[2] = Example("wrong", pool[2].image, WRONG[kind](*(scene(2)[0].mask, scene(2)[1])))
    assert [each.key for each in poison.examine(pool, embedded) if each.suspicious] == ["wrong"]


def test_two_wrong_masks_of_seven_are_named(embedded: Segmenter) -> None:
    pool = drawn_pool(7)
    for place in (1, 5):
        pool[place] = Example(f"wrong/{place}", pool[place].image, scene(place)[1])
    named = [each.key for each in poison.examine(pool, embedded) if each.suspicious]
    assert named == ["wrong/1", "wrong/5"]
