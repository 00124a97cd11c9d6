"""Where tasks stand in sequences, by what their data say."""

import pytest

from backend.sequences import Place, frame_of, place_of
from backend.settings import Settings

ON = Settings(sequence_key="clip")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (12, 12.0),
        (12.0, 12.0),
        (-0.5, -0.5),
        ("12", 12.0),
        (" 0012 ", 12.0),
        ("-3.25", -3.25),
        ("frame_0012.png", 12.0),
        ("s3://bucket/clip.2/0001TP_006690.jpg", 6690.0),
        ("clip.mp4", None),
        ("clip7.mp4", 7.0),
        ("1970-01-01T00:01:00Z", 60.0),
        ("", None),
        ("first", None),
        (True, None),
        (None, None),
        ([12], None),
        ({"frame": 12}, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        ("8" * 400, None),
        ("nan", None),
        ("１２", None),  # noqa: RUF001 - digits that are none of ours
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_frame_is_a_number_or_a_text_that_ends_in_one(value: object, number: float | None) -> None:
    assert frame_of(value) == number


@pytest.mark.parametrize(
    ("address", "number"),
    [
        ("frame_0012.png?X-Amz-Expires=3600&X-Amz-Signature=ab12cd9", 12.0),
        ("frame_0012.png?token=eyJ9.eyJ8.ab7cd8ef9", 12.0),
        ("frame_0012.png?v=3", 12.0),
        ("frame_0012.png#t=7", 12.0),
        ("first.png?v=3", None),
        ("get.php?file=frame_0012.png", 12.0),
        ("?d=clip/frame_0012.png", 12.0),
        ("?d=clip/frame_0012", 12.0),
    ],
)
def test_of_an_address_the_file_s_name_counts_and_not_what_stands_behind_it(
    address: str, number: float | None
) -> None:
    """The digits that a signature or a version ended in were the frame: all at one place, or at any."""
    assert frame_of(f"https://files.example/a/{address}") == number


@pytest.mark.parametrize(
    ("value", "sequence"),
    [
        ("a", "a"),
        (" a ", "a"),
        (12, "12"),
        (12.0, "12"),
        (0, "0"),
        (1.5, "1.5"),
        ("", None),
        (True, None),
        (None, None),
        (["a"], None),
        ("half a \ud800", None),
    ],
    ids=ascii,
)
def test_a_sequence_is_a_text_or_a_number(value: object, sequence: str | None) -> None:
    place = place_of({"data": {"clip": value, "frame": 3}}, ON)
    assert place == (None if sequence is None else Place(sequence, 3.0))


def test_without_the_setting_or_the_data_a_task_is_no_frame() -> None:
    task = {"data": {"": "a", "clip": "a", "frame": 1, "at": 2}}
    assert place_of(task, Settings()) is None
    assert place_of({"data": {"frame": 1}}, ON) is None
    assert place_of({"data": None}, ON) is None
    assert place_of({}, ON) is None
    assert place_of({"data": {"clip": "a"}}, ON) == Place("a")
    assert place_of(task, Settings(sequence_key="clip", frame_key="at")) == Place("a", 2.0)
