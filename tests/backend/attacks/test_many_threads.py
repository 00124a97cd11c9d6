"""Many threads, several projects, one model: nobody gets another's mask."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.backend.stage import Stage, brush, data_uri, mask_of, png

THREADS, QUESTIONS = 16, 12  # questions a thread
LIVELY = 4.0
COLOURS = ([230, 60, 40], [50, 220, 70], [60, 90, 240], [235, 225, 60])  # of each project's cells

Image: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]


def crowd(seed: int) -> tuple[Image, list[Mask]]:
    """A dark picture with a disc of every project's colour, and the discs; no two pictures are alike."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 25, (64, 64, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:64, :64]
    places = random.permutation(4)
    discs = []
    for colour, place in zip(COLOURS, places, strict=True):
        y, x = 16 + 32 * (place // 2) + random.integers(-5, 6), 16 + 32 * (place % 2) + random.integers(-5, 6)
        disc = (rows - y) ** 2 + (columns - x) ** 2 < random.integers(40, 100)
        image[disc] = colour
        discs.append(disc)
    return image, discs


def make_projects(stage: Stage) -> dict[int, str]:
    """A project for each colour, where two discs of that colour have been approved; keys by number."""
    keys = {}
    for number in range(1, len(COLOURS) + 1):
        stage.project = number if number in stage.label_studio.projects else stage.label_studio.add_project()
        for seed in (1, 2):
            image, discs = crowd(seed)
            stage.submit(stage.upload(image), brush(discs[number - 1]))
        stage.work()
        keys[number] = stage.key
    return keys


def ask(stage: Stage, key: str, task: int) -> dict[str, Any]:
    row = {"id": task, "data": {"image": data_uri(png(crowd(100 + task)[0]))}}
    answer = stage.client.post("/predict", json={"tasks": [row], "project": key})
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    return dict(result)


def ask_side_by_side(stage: Stage, keys: dict[int, str]) -> list[tuple[int, int, dict[str, Any]]]:
    """Project, task and answer of many questions on many threads; the same tasks are asked about for every project."""
    together = Barrier(THREADS)

    def person(number: int) -> list[tuple[int, int, dict[str, Any]]]:
        order = np.random.default_rng(number)
        together.wait(300)
        answers = []
        for _ in range(QUESTIONS):
            project, task = int(order.integers(1, len(keys) + 1)), int(order.integers(1, 25))
            answers.append((project, task, ask(stage, keys[project], task)))
        return answers

    with stage.client, ThreadPoolExecutor(THREADS) as people:
        return [answer for each in people.map(person, range(THREADS)) for answer in each]


def test_nobody_gets_the_mask_of_another_project_or_task(stage: Stage) -> None:
    stage.segment_by_colour()
    keys = make_projects(stage)
    answers = ask_side_by_side(stage, keys)
    assert len(answers) == THREADS * QUESTIONS
    assert {project for project, _, _ in answers} == set(keys)
    for project, task, answer in answers:
        (region,) = answer["result"]
        assert np.array_equal(mask_of(region), crowd(100 + task)[1][project - 1])


@pytest.fixture
def lively_checkpoint(checkpoint_file: Path, tmp_path: Path) -> Path:
    """A random network whose answer depends much on the examples."""
    weights = {name: tensor * LIVELY for name, tensor in load_file(checkpoint_file).items()}
    with safe_open(checkpoint_file, "pt") as opened:
        save_file(weights, tmp_path / "lively.safetensors", metadata=opened.metadata())
    return tmp_path / "lively.safetensors"


def test_the_network_s_answers_side_by_side_are_those_of_one_at_a_time(
    staging: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, lively_checkpoint: Path
) -> None:
    """The masks of a random network mean nothing, but each question has its own."""
    stage, alone = staging(checkpoint=lively_checkpoint), staging(checkpoint=lively_checkpoint)
    keys = make_projects(stage)

    def load(*_: Any, **__: Any) -> Any:
        raise AssertionError("the model is loaded once, when the backend is built")

    monkeypatch.setattr("model.checkpoint.load", load)
    monkeypatch.setattr("model.segmenter.Segmenter.load", load)
    answers = ask_side_by_side(stage, keys)
    scores: dict[tuple[int, int], float] = {}
    for project, task, answer in answers:
        if (project, task) not in scores:
            scores[project, task] = ask(alone, keys[project], task)["score"]
        assert answer["score"] == pytest.approx(scores[project, task], abs=1e-6)
    assert len({round(score, 5) for score in scores.values()}) > 0.9 * len(
        scores
    )  # else equality says nothing
