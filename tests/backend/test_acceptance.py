"""From which score on predictions can be accepted in bulk: the arithmetic, and the promise by trial."""

from typing import Any

import numpy as np
import pytest

from backend.admin.acceptance import FEWEST, NEWEST, SHARE, Acceptance, Submission, accept_from, at_least
from tests.backend.stage import Stage, blob, brush, half


def submissions(*groups: tuple[float, int, int]) -> list[Submission]:
    """For each group of a score: so many kept unchanged, so many changed."""
    return [
        Submission(score, number < kept)
        for score, kept, changed in groups
        for number in range(kept + changed)
    ]


def test_where_all_or_none_were_good_the_lower_bound_is_known() -> None:
    assert at_least(0, 5) == 0.0
    for count in (1, 5, 60):  # the n-th root of what is left to chance
        assert at_least(count, count) == pytest.approx(0.05 ** (1 / count), abs=2e-6)


@pytest.mark.parametrize(("good", "count"), [(8, 10), (59, 61), (270, 300), (3, 200)])
def test_the_lower_bound_is_the_quantile_of_a_beta_distribution(good: int, count: int) -> None:
    """As Clopper and Pearson's can be written, too: of Beta(good, count - good + 1), integrated here."""
    shares = np.linspace(0, 1, 2_000_001)[1:-1]
    density = np.exp((good - 1) * np.log(shares) + (count - good) * np.log1p(-shares))
    below = density[shares <= at_least(good, count)].sum() / density.sum()
    assert below == pytest.approx(0.05, abs=1e-4)


def test_few_submissions_tell_nothing() -> None:
    for many in (submissions(), submissions((0.9, FEWEST - 1, 0))):
        assert accept_from(many) == Acceptance(len(many), None, None, None, None, "too early")
    assert accept_from(submissions((0.9, FEWEST, 0))).verdict == "found"


def test_it_is_the_lowest_score_above_which_enough_is_kept() -> None:
    found = accept_from(submissions((0.95, 90, 1), (0.8, 60, 3), (0.5, 20, 40)))
    assert (found.verdict, found.threshold, found.above, found.unchanged) == ("found", 0.51, 154, 150)
    assert found.low == at_least(150, 154)
    assert accept_from(submissions((0.95, 90, 1), (0.8, 30, 33))).threshold == 0.81


def test_as_few_as_two_changed_of_the_fewest_are_borne_and_no_third() -> None:
    assert accept_from(submissions((0.9, FEWEST - 2, 2))).verdict == "found"
    assert accept_from(submissions((0.9, FEWEST - 3, 3))).verdict == "none"


def test_what_is_below_the_first_that_cannot_be_promised_is_not_tried() -> None:
    """Else, of many thresholds, one would pass by chance."""
    told = accept_from(submissions((0.9, 50, 20), (0.5, 230, 0)))
    assert (told.verdict, told.threshold, told.count) == ("none", None, 300)


def test_with_scores_that_tell_nothing_and_much_kept_everything_can_be_accepted() -> None:
    assert accept_from(submissions((0.0, 100, 0))).threshold == 0.0


def test_what_was_long_ago_does_not_count() -> None:
    long_ago = submissions((0.9, 0, 500))
    assert accept_from([*long_ago, *submissions((0.9, NEWEST, 0))]).verdict == "found"


def test_what_is_promised_is_broken_at_most_as_often_as_is_said() -> None:
    """Worlds in which a prediction is kept with a known probability: how often the true share is below."""
    random, broken = np.random.default_rng(0), 0
    for _ in range(400):
        scores = random.random(300)
        kept = np.clip(0.55 + 0.45 * scores, 0, 1)  # 0.9 at a score of 0.78; on average 0.9 from 0.56 on
        seen = [Submission(float(s), bool(random.random() < p)) for s, p in zip(scores, kept, strict=True)]
        threshold = accept_from(seen).threshold
        if threshold is not None:
            broken += 0.55 + 0.45 * (1 + threshold) / 2 < SHARE
    assert broken <= 0.07 * 400  # 5 % and what chance adds


# -- of a project --------------------------------------------------------------------------------------------------
def acceptance(stage: Stage) -> Any:
    return stage.client.get(f"/api/projects/{stage.key}/figures").json()["acceptance"]


def test_a_project_tells_it_from_what_people_submitted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.admin.acceptance.FEWEST", 5)
    stage.segment_by_colour()
    stage.approve(0)
    before = acceptance(stage)
    assert (before["count"], before["threshold"], before["verdict"]) == (0, None, "too early")
    seeds = range(20, 50)
    tasks = [stage.upload(blob(seed)[0]) for seed in seeds]
    scores = [prediction["score"] for prediction in stage.predict(*tasks)]
    for task, seed in zip(tasks, seeds, strict=True):
        stage.submit(task, brush(blob(seed)[1], origin="prediction"), lead_time=10.0)
    stage.work()
    told = acceptance(stage)
    assert (told["count"], told["share"], told["verdict"]) == (30, SHARE, "found")
    assert (told["above"], told["unchanged"], told["low"]) == (30, 30, at_least(30, 30))
    assert 0 <= told["threshold"] <= min(scores)


def test_what_was_changed_counts_and_what_nobody_looked_at_does_not(stage: Stage) -> None:
    stage.segment_by_colour()
    stage.approve(0)
    image, mask = blob(20)
    for fields in ({"lead_time": 3.0}, {"lead_time": None}):
        task = stage.upload(image)
        stage.predict(task)
        stage.submit(task, brush(half(mask), origin="prediction-changed"), **fields)
        stage.work()
    assert len(stage.backend.store.kept(stage.key)) == 2
    assert acceptance(stage)["count"] == 1
