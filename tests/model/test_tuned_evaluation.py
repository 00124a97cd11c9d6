"""Tuned prompts by the protocol: no query trains or chooses its own prompt, and the row is comparable."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluation import EvaluationError, evaluate_folder
from model.gate import COMPANIONS
from model.segmenter import Query, Segmenter
from model.tuned_evaluation import evaluate_tuned
from model.tuning import FEWEST, Tuned, TuningConfig
from tests.model.learning import Recorder

QUICK = TuningConfig(steps=2, batch_size=2, validate_every=1, warmup=1, learning_rate=0.05)


def write(folder: Path, count: int, second: int) -> Path:
    """Class 1 in all pictures, class 2 in the first few; a picture's own brightness tells which it is."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        indices = np.zeros((30, 40), dtype=np.uint8)
        indices[5:15, 5 : 10 + number] = 1
        indices[20:28, 20:38] = 2 * (number < second)
        picture = np.full((30, 40, 3), 10 * number, dtype=np.uint8)
        picture[indices == 1] = 250
        Image.fromarray(picture).save(folder / "images" / f"{number:02}.png")
        Image.fromarray(indices).convert("P").save(folder / "masks" / f"{number:02}.png")
    return folder


def number_of(query: Query) -> int:
    return int(query.image[0, 0, 0]) // 10


@pytest.mark.parametrize("count", [9, 17])
def test_no_query_trains_or_chooses_its_own_prompt(
    recorder: Recorder, tmp_path: Path, tuned_seen: dict[int, Tuned], count: int
) -> None:
    """With 9 pictures none is held out of training, with 17 there is a validation split."""
    folder = write(tmp_path / "drawn", count, 0)
    found = evaluate_tuned(folder, recorder, [1, 4], QUICK)
    assert (found.tunings, len(tuned_seen)) == (2, 2)
    judged: dict[int, set[int]] = {}
    validated = 0
    for query in recorder.asked:
        if query.context.prompt is None or id(query.context.prompt.image) not in tuned_seen:
            continue
        tuned = tuned_seen[id(query.context.prompt.image)]
        key = f"{folder}/1/{number_of(query):02}"
        if key in tuned.validated_on:
            assert not {*tuned.validated_on} & {*query.context.keys}
            validated += 1
            continue
        assert key not in (*tuned.trained_on, *query.context.keys)
        assert count > 9 or len(query.context.examples) == COMPANIONS, "nothing held out could say otherwise"
        judged.setdefault(id(query.context.prompt.image), set()).add(number_of(query))
    assert sorted(judged.values(), key=len) == [{*range(1, count, 2)}, {*range(0, count, 2)}]
    assert validated == (4 if count > 9 else 0)


def test_the_row_is_of_the_classes_and_queries_of_the_most_shots(recorder: Recorder, tmp_path: Path) -> None:
    folder = write(tmp_path / "drawn", 9, 3)
    context = evaluate_folder(folder, recorder, [1, 4]).rows[-1]
    row = evaluate_tuned(folder, recorder, [1, 4, 20], QUICK, extras=("boundary_f", "object_f1")).row
    assert (row.shots, row.method, row.queries) == (4, "tuned", 9)
    assert (context.shots, context.queries, set(context.classes)) == (4, 9, set(row.classes))
    assert row.miou == pytest.approx(row.classes[1])
    assert row.seconds_per_image > 0
    assert set(row.extras) == {"boundary_f", "object_f1"}


def test_where_it_is_too_early_all_that_is_left_is_the_context(recorder: Recorder, tmp_path: Path) -> None:
    count = 2 * FEWEST - 1
    found = evaluate_tuned(write(tmp_path / "drawn", count, 0), recorder, [1], QUICK)
    assert found.tunings == 1
    alone = [query for query in recorder.asked if query.context.prompt is None and len(query.context) == 3]
    assert [number_of(query) for query in alone] == [0, 2, 4, 6]
    assert all({example.key[-1] for example in query.context.examples} == {*"135"} for query in alone)


def test_progress_goes_from_none_to_all(segmenter: Segmenter, tmp_path: Path) -> None:
    calls: list[tuple[float, float]] = []
    evaluate_tuned(
        write(tmp_path / "drawn", 8, 0),
        segmenter,
        [1],
        QUICK,
        lambda done, total: calls.append((done, total)),
    )
    assert calls == [(0, 2), (0.5, 2), (1, 2), (1, 2), (1.5, 2), (2, 2), (2, 2)]


def test_without_images_enough_there_is_no_row(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no class has more than 8 images"):
        evaluate_tuned(write(tmp_path / "drawn", 5, 0), segmenter, [8], QUICK)
