"""What ten more masks bring, and hours saved: the arithmetic."""

import math

import numpy as np
import pytest

from backend.admin.outlook import AHEAD, FEWEST, WORTH, look_ahead, saved


def growing(count: int, slope: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """Kept IoUs around 0.3 + slope * log(number)."""
    random = np.random.default_rng(seed)
    return [0.3 + slope * math.log(n) + noise * float(random.normal()) for n in range(1, count + 1)]


def test_with_few_submissions_nothing_is_told() -> None:
    for kept in ([], [0.5] * (FEWEST - 1)):
        told = look_ahead(kept)
        assert (told.verdict, told.gain, told.level) == ("too early", None, None)
    assert look_ahead([0.5] * FEWEST).verdict != "too early"


def test_a_trend_without_noise_is_told_exactly() -> None:
    told = look_ahead(growing(20, 0.1))
    assert told.level == pytest.approx(0.3 + 0.1 * math.log(20))
    gain = 0.1 * math.log(30 / 20)
    assert (told.gain, told.low, told.high) == pytest.approx((gain, gain, gain))
    assert told.verdict == "go on"
    assert look_ahead([0.8] * 20).verdict == "stop"


def test_the_longer_it_goes_the_less_ten_more_bring() -> None:
    gains = [look_ahead(growing(count, 0.05)).gain or 0 for count in (12, 50, 150, 400)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] == pytest.approx(0.05 * math.log((400 + AHEAD) / 400))


def test_noise_makes_it_unclear_and_more_submissions_clear_again() -> None:
    assert look_ahead(growing(14, 0.02, noise=0.25)).verdict == "unclear"
    assert look_ahead(growing(200, 0.0, noise=0.1)).verdict == "stop"


def test_the_spread_holds_the_true_gain_about_as_often_as_it_says() -> None:
    true = 0.05 * math.log(50 / 40)
    told = [look_ahead(growing(40, 0.05, noise=0.08, seed=seed)) for seed in range(400)]
    held = np.mean([(one.low or 0) <= true <= (one.high or 0) for one in told])
    assert 0.90 <= held <= 0.99


def test_nothing_is_promised_beyond_one_nor_below_nothing() -> None:
    told = look_ahead([min(1.0, 0.09 * n) for n in range(1, 13)])
    assert told.level is not None
    assert told.high is not None
    assert told.level + told.high <= 1.0
    falling = look_ahead([max(0.0, 1.0 - 0.09 * n) for n in range(1, 13)])
    assert (falling.level or 0.0) + (falling.low or 0.0) >= 0.0
    assert falling.verdict == "stop"
    assert (falling.high or 0.0) < WORTH


def test_hours_saved_compare_medians_and_say_how_sure_they_are() -> None:
    told = saved([100, 120, 140, 160, 1e6], [20, 30, 40, 50, 60, 70])
    assert (told.median_without, told.median_with) == (140, 45)
    assert told.hours == pytest.approx(6 * 95 / 3600)
    assert told.low is not None
    assert told.high is not None
    assert told.hours is not None
    assert told.low < told.hours < told.high


def test_time_lost_is_told_as_it_is() -> None:
    told = saved([10.0] * 5, [20.0] * 5)
    assert told.hours == pytest.approx(-5 * 10 / 3600)


@pytest.mark.parametrize(("without", "with_"), [(0, 0), (4, 50), (50, 4)])
def test_too_few_lead_times_tell_nothing(without: int, with_: int) -> None:
    told = saved([10.0] * without, [5.0] * with_)
    assert (told.hours, told.low, told.high) == (None, None, None)
    assert (told.without, told.with_) == (without, with_)
