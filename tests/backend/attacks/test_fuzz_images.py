"""Image files of every kind, sound, damaged and lying: pixels, or a refusal in words; nothing else."""

import json
import resource
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.errors import ImageError
from backend.images.decoding import decode
from tests.backend.attacks.arena import Arena
from tests.backend.attacks.fuzzing import TEXTS, inputs, trying
from tests.backend.attacks.pictures import CASES, SOUND, bombs
from tests.backend.stage import data_uri

LIMIT = 1_000_000
# Damaged EXIF and TIFF tags make Pillow warn.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning")


def peak() -> int:
    """Largest resident memory of the process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound file that is cut off, overwritten, longer, or begins like one of another kind."""
    content = bytearray(draw(st.sampled_from(SOUND)))
    match draw(st.sampled_from(["cut", "overwrite", "overwrite", "head", "join", "delete"])):
        case "cut":
            return bytes(content[: draw(st.integers(0, len(content)))])
        case "head":
            other = draw(st.sampled_from(SOUND))
            length = draw(st.integers(4, 40))
            return other[:length] + bytes(content[length:])
        case "join":
            return bytes(content) + draw(st.sampled_from(SOUND))
        case "delete":
            place = draw(st.integers(0, len(content) - 1))
            return bytes(content[:place] + content[place + draw(st.integers(1, 9)) :])
    for _ in range(draw(st.integers(1, 6))):
        # Headers and tags, where lies about sizes stand, are at the beginning of most kinds.
        place = draw(st.one_of(st.integers(0, min(120, len(content) - 1)), st.integers(0, len(content) - 1)))
        noise = draw(
            st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\xff\xff\xff\xff", bytes(4)]))
        )
        content[place : place + len(noise)] = noise
    return bytes(content)


@inputs(2500)
@given(content=damaged())
def test_a_damaged_file_gives_pixels_within_the_limit_or_a_refusal(content: bytes) -> None:
    with trying("images"), suppress(ImageError):
        pixels = decode(content, LIMIT)
        assert pixels.shape[2] == 3
        assert pixels.dtype == np.uint8
        assert 0 < pixels.shape[0] * pixels.shape[1] <= LIMIT


@inputs(300)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.sampled_from(SOUND).flatmap(lambda file: st.binary(max_size=50).map(file.__add__)),
    )
)
def test_noise_gives_pixels_or_a_refusal(content: bytes) -> None:
    with trying("images"), suppress(ImageError):
        assert decode(content, LIMIT).shape[2] == 3


@pytest.mark.parametrize(("make", "size"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_kind_is_read_at_every_size(make: Any, size: tuple[int, int]) -> None:
    with trying("images"):
        pixels = decode(make(size), LIMIT)
        assert sorted(pixels.shape[:2]) == sorted(size)


@pytest.mark.parametrize("kind", bombs(60_000))
def test_a_file_that_claims_billions_of_pixels_is_refused_and_takes_no_memory(kind: str) -> None:
    before = peak()
    for side in (1_001, 10_000, 60_000):
        with trying("images"), pytest.raises(ImageError):
            decode(bombs(side)[kind], LIMIT)
    assert peak() - before < 64 * 2**20  # 60,000 x 60,000 pixels would be 3.6 billion bytes at least


@inputs(300)
@given(content=damaged(), address=TEXTS, inline=st.booleans())
def test_a_task_whose_image_is_damaged_gets_nothing_or_a_mask_and_its_neighbour_its_own(
    arena: Arena, content: bytes, address: str, inline: bool
) -> None:
    with trying("images by HTTP"):
        stage = arena.stage
        sound = stage.label_studio.tasks[1001]["data"]
        tasks = [
            {"id": 1, "data": {"image": data_uri(content) if inline else address}},
            {"id": 2, "data": sound},
        ]
        body = json.dumps({"tasks": tasks, "project": stage.key})
        answer = stage.client.post("/predict", content=body)
        assume(answer.status_code != 422)  # half a character is no JSON
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][1]["result"]
        arena.assert_nothing_raised()


@pytest.mark.parametrize(("make", "size"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_kind_at_every_size_is_predicted(arena: Arena, make: Any, size: tuple[int, int]) -> None:
    with trying("images by HTTP"):
        stage = arena.stage
        task = {"id": 1, "data": {"image": data_uri(make(size))}}
        (result,) = stage.client.post("/predict", json={"tasks": [task], "project": stage.key}).json()[
            "results"
        ]
        assert result, stage.backend.store.task_states(stage.key)
        arena.assert_nothing_raised()


def test_after_the_images_the_right_examples_are_learned(arena: Arena) -> None:
    arena.still_learns(43)
