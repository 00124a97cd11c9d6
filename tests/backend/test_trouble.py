"""What is told of an outage of Label Studio, how often, and how the pauses grow with it."""

import logging

import pytest

from backend.errors import Unauthorized, Unreachable
from backend.label_studio.trouble import Trouble

SLOW, AWAY = Unreachable("Late.", slow=True), Unreachable("Away.")
REFUSED = Unauthorized("Refused.", status=401)


def told(caplog: pytest.LogCaptureFixture, least: int = logging.WARNING) -> list[str]:
    """What the log says."""
    return [record.getMessage() for record in caplog.records if record.levelno >= least]


def test_an_outage_is_told_once_and_again_only_where_the_remedy_is_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    trouble = Trouble(lambda: now[0])
    trouble.over()
    for error in (AWAY, SLOW, AWAY, REFUSED, REFUSED):
        trouble.met(error)
        now[0] += 30
    trouble.over()
    trouble.over()
    trouble.met(AWAY)
    assert [line.split()[0] for line in told(caplog)] == ["Away.", "Refused.", "Away."]
    assert [line for line in told(caplog, logging.INFO) if "again, after" in line] == [
        "Label Studio answers again, after 150 s"
    ]


def test_answers_that_are_late_now_and_then_are_one_trouble(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    trouble = Trouble(lambda: now[0])
    for _ in range(9):
        trouble.met(SLOW)
        now[0] += 10
        trouble.over()
        now[0] += 50
    assert len(told(caplog)) == 1
    now[0] += 600
    trouble.met(SLOW)
    assert len(told(caplog)) == 2


def test_a_label_studio_that_hangs_is_told_though_a_late_answer_was_told_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    trouble = Trouble(lambda: now[0])
    trouble.met(SLOW)
    trouble.over()
    for _ in range(12):
        now[0] += 100
        trouble.met(SLOW)
    assert len(told(caplog)) == 2


def test_an_outage_that_begins_with_a_late_answer_is_told_though_late_ones_no_longer_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    trouble = Trouble(lambda: 0.0)
    trouble.met(SLOW)
    trouble.over()
    for error in (SLOW, AWAY, SLOW, AWAY):
        trouble.met(error)
    assert [line.split()[0] for line in told(caplog)] == ["Late.", "Away."]


def test_pauses_grow_with_the_outage() -> None:
    now = [0.0]
    trouble = Trouble(lambda: now[0])
    assert trouble.pause == 15
    trouble.met(AWAY)
    pauses = []
    for _ in range(8):
        pauses.append(trouble.pause)
        now[0] += trouble.pause
    assert pauses == [2, 2, 4, 8, 16, 32, 60, 60]
    trouble.over()
    assert trouble.pause == 15
