"""Pictures in, probability masks out: any context, any order, any size, any memory."""

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model import canvas, checkpoint
from model import segmenter as segmenter_module
from model.device import DeviceMemoryError
from model.edges import ProbabilityMap
from model.example import Context, Example, Prompt
from model.seggpt import SegGPT
from model.segmenter import Ensemble, Query, Segmenter

Draw = Callable[..., Example]


def context(*examples: Example) -> Context:
    return Context(examples)


def assert_equal(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-5


def differ(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    return bool(np.abs(first - second).max() > 1e-2)


def test_a_result_is_the_networks_painting_at_the_querys_size(segmenter: Segmenter, draw: Draw) -> None:
    example, query = draw(1), draw(2, 24, 90).image
    (result,) = segmenter.segment([Query(query, context(example))])
    assert result.dtype == np.float32
    assert result.shape == (24, 90)
    with torch.no_grad():
        painted = segmenter.model(
            canvas.image_tensor(example.image, 32)[None, None],
            canvas.mask_tensor(example.mask, 32)[None, None],
            canvas.image_tensor(query, 32)[None],
        )
    assert_equal(result, ProbabilityMap(canvas.probability(painted)[0].numpy(), 24, 90).whole())
    assert result.std() > 0.01


def test_queries_of_any_contexts_are_answered_in_order_and_as_if_alone(
    segmenter: Segmenter, draw: Draw
) -> None:
    """Sizes, numbers of examples and kinds are mixed; alone and together must agree query by query."""
    queries = [
        Query(draw(10 + number, 20 + number, 40).image, context(*map(draw, range(1 + number % 3))))
        for number in range(7)
    ]
    queries.append(replace(queries[0], kind="instance"))
    together = segmenter.segment(queries)
    for query, result in zip(queries, together, strict=True):
        assert_equal(result, segmenter.segment([query])[0])
    assert differ(together[0], together[7])
    assert segmenter.segment([]) == []


@pytest.mark.parametrize("ensemble", ["feature", "spatial", "both"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_the_order_of_examples_does_not_matter(
    small_model: SegGPT, draw: Draw, ensemble: Ensemble, count: int
) -> None:
    """At the network, the first prompt's last row reaches the query's first row: there the order does matter."""
    segmenter = Segmenter(small_model, dtype=torch.float32, ensemble=ensemble)
    examples = [draw(number) for number in range(count)]
    query = draw(99).image
    straight, turned = segmenter.segment(
        [Query(query, context(*examples)), Query(query, context(*examples[::-1]))]
    )
    assert np.array_equal(straight, turned)
    if count > 1:
        assert differ(straight, segmenter.segment([Query(query, context(examples[0]))])[0])


def test_ensembles_differ_and_a_mosaic_is_one_prompt(small_model: SegGPT, draw: Draw) -> None:
    query = Query(draw(99).image, context(*map(draw, range(6))))
    results: list[NDArray[np.float32]] = []
    prompts: list[list[int]] = []
    modes: tuple[Ensemble, ...] = ("feature", "spatial", "both")
    for mode in modes:
        segmenter = Segmenter(small_model, dtype=torch.float32, ensemble=mode)
        narrow = _Narrow(segmenter.model, 99, MemoryError())
        results += segmenter.segment([query])
        prompts.append(narrow.sizes)
        narrow.remove()
    assert prompts == [[6], [1], [2]]
    assert differ(results[0], results[1])
    assert differ(results[1], results[2])


def test_a_mosaic_shows_every_example_and_repeats_the_first_in_empty_cells() -> None:
    prepared = [
        segmenter_module._Prepared(
            np.full((32, 32, 3), 40 * number, dtype=np.uint8), np.full((32, 32), number == 1), bytes([number])
        )
        for number in range(3)
    ]
    picture, mask = segmenter_module._mosaic(prepared, 32)
    assert [int(picture[row, column, 0]) for row in (8, 24) for column in (8, 24)] == [0, 40, 80, 0]
    assert [bool(mask[row, column]) for row in (8, 24) for column in (8, 24)] == [False, True, False, False]
    assert mask.sum() == 16 * 16


def test_identical_examples_weigh_as_one(segmenter: Segmenter, draw: Draw) -> None:
    example, query = draw(1), draw(2).image
    twin = replace(example, key="twin")
    one, two = segmenter.segment([Query(query, context(example)), Query(query, context(example, twin))])
    assert_equal(two, one)


def test_a_tuned_prompt_takes_an_examples_place(small_model: SegGPT, draw: Draw) -> None:
    """A prompt made of an example's own tensors must give what the example gives, in every ensemble."""
    example, query = draw(1), draw(2).image
    prompt = Prompt(
        "tuned", canvas.image_tensor(example.image, 32).numpy(), canvas.mask_tensor(example.mask, 32).numpy()
    )
    modes: tuple[Ensemble, ...] = ("feature", "spatial", "both")
    for mode in modes:
        segmenter = Segmenter(small_model, dtype=torch.float32, ensemble=mode)
        by_example, by_prompt, with_example = segmenter.segment(
            [
                Query(query, context(example)),
                Query(query, Context(prompt=prompt)),
                Query(query, Context((draw(3),), prompt)),
            ]
        )
        assert_equal(by_prompt, by_example)
        assert differ(with_example, by_prompt)


def test_a_prompt_for_another_size_is_a_value_error(segmenter: Segmenter, draw: Draw) -> None:
    other = np.zeros((3, 16, 16), dtype=np.float32)
    with pytest.raises(ValueError, match=r"\[3, 32, 32\]"):
        segmenter.segment([Query(draw(1).image, Context(prompt=Prompt("p", other, other)))])


def test_an_empty_context_is_a_value_error(segmenter: Segmenter, draw: Draw) -> None:
    with pytest.raises(ValueError, match="at least one example"):
        segmenter.segment([Query(draw(1).image, Context())])


@pytest.mark.parametrize("shape", [(1, 1), (3, 60), (3, 3), (20, 200), (200, 20)])
def test_queries_and_examples_of_any_proportion_are_segmented(
    segmenter: Segmenter, draw: Draw, shape: tuple[int, int]
) -> None:
    (result,) = segmenter.segment([Query(draw(1, *shape).image, context(draw(2, *shape), draw(3)))])
    assert result.shape == shape
    assert np.isfinite(result).all()
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda rgb: np.dstack([rgb, np.full_like(rgb[..., :1], 255)]), id="RGBA"),
        pytest.param(lambda rgb: rgb.astype(np.float32) / 255, id="floats"),
        pytest.param(lambda rgb: np.asfortranarray(rgb), id="other memory order"),
        pytest.param(lambda rgb: rgb[::-1][::-1], id="a view"),
    ],
)
def test_a_query_is_the_same_in_any_form(
    segmenter: Segmenter, draw: Draw, form: Callable[[Any], Any]
) -> None:
    rgb = draw(1).image
    plain, formed = segmenter.segment([Query(rgb, context(draw(2))), Query(form(rgb), context(draw(2)))])
    assert_equal(formed, plain)


def test_a_grey_16_bit_query_is_segmented_like_its_8_bit_stretch(segmenter: Segmenter) -> None:
    deep = np.linspace(800, 1400, 600).reshape(20, 30).astype(np.uint16)
    stretched = canvas.to_rgb(deep)
    example = Example("self", stretched, stretched[:, :, 0] > 128)
    first, second = segmenter.segment([Query(deep, context(example)), Query(stretched, context(example))])
    assert_equal(first, second)


class _Narrow:
    """The network's edge, where memory for more than `most` (prompt, query) pairs is missing."""

    def __init__(self, model: SegGPT, most: int, error: type[Exception] | Exception) -> None:
        self.sizes: list[int] = []
        self.most = most
        self.error = error
        self.remove = model.register_forward_pre_hook(self.refuse).remove

    def refuse(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.sizes.append(inputs[0].shape[0] * inputs[0].shape[1])
        if self.sizes[-1] > self.most:
            raise self.error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_a_batch_too_large_for_memory_is_halved_until_it_fits(
    segmenter: Segmenter, draw: Draw, error: Exception
) -> None:
    queries = [Query(draw(number).image, context(draw(50 + number))) for number in range(8)]
    wanted = segmenter.segment(queries)
    narrow = _Narrow(segmenter.model, 3, error)
    for got, result in zip(segmenter.segment(queries), wanted, strict=True):
        assert_equal(got, result)
    assert narrow.sizes == [8, 4, 2, 2, 2, 2]


def test_one_query_too_large_for_memory_is_told_with_what_to_do(segmenter: Segmenter, draw: Draw) -> None:
    _Narrow(segmenter.model, 2, torch.OutOfMemoryError("CUDA out of memory"))
    query = Query(draw(1).image, context(draw(2), draw(3), draw(4)))
    with pytest.raises(DeviceMemoryError, match=r"one query with 3 prompts at 32 px: use fewer examples"):
        segmenter.segment([query])
    assert len(segmenter.segment([Query(draw(1).image, context(draw(2)))])) == 1, (
        "and the device is free again"
    )


def test_other_errors_of_the_network_are_not_taken_for_missing_memory(
    segmenter: Segmenter, draw: Draw
) -> None:
    narrow = _Narrow(segmenter.model, 0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        segmenter.segment([Query(draw(1).image, context(draw(2)))] * 4)
    assert narrow.sizes == [4]


def test_a_batch_holds_no_more_pairs_than_asked(small_model: SegGPT, draw: Draw) -> None:
    segmenter = Segmenter(small_model, dtype=torch.float32, batch_size=4)
    narrow = _Narrow(segmenter.model, 99, MemoryError())
    three = context(draw(1), draw(2), draw(3))
    segmenter.segment([Query(draw(9).image, context(draw(1)))] * 5 + [Query(draw(9).image, three)] * 2)
    assert narrow.sizes == [4, 1, 3, 3]


def test_examples_are_resized_once_and_kept_within_bounds(
    small_model: SegGPT, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter_module, "CACHE_BYTES", 2 * 4 * 32 * 32)
    segmenter = Segmenter(small_model, dtype=torch.float32)
    resized: list[tuple[int, ...]] = []
    resize = canvas.resize_mask

    def counted(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
        resized.append(mask.shape)
        return resize(mask, height, width)

    monkeypatch.setattr(canvas, "resize_mask", counted)
    for _ in range(3):
        segmenter.segment([Query(draw(9).image, context(draw(1), draw(2)))])
    assert len(resized) == 2
    for number, resizes in ((1, 2), (3, 3), (1, 3), (2, 4)):
        segmenter.segment([Query(draw(9).image, context(draw(number)))])
        assert len(resized) == resizes, "only two are kept: those used last"


def somebody_waits(turns: Any) -> None:
    assert any(turns._door.locked() or threading.Event().wait(0.01) for _ in range(30_000)), "nobody waits"


def test_threads_share_the_device_one_batch_at_a_time_and_in_turn(segmenter: Segmenter, draw: Draw) -> None:
    inside, most, order, started = [0], [0], [], threading.Event()

    def enter(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        order.append(inputs[0].shape[1])
        if len(order) == 1:
            started.set()
            somebody_waits(segmenter._turns)
        threading.Event().wait(0.01)

    def leave(*_: Any) -> None:
        inside[0] -= 1

    segmenter.model.register_forward_pre_hook(enter)
    segmenter.model.register_forward_hook(leave)
    many = [Query(draw(9).image, context(draw(1)))] * 160
    background = threading.Thread(target=segmenter.segment, args=[many])
    background.start()
    started.wait()
    (wanted,) = segmenter.segment([Query(draw(9).image, context(draw(1), draw(2)))])
    came_at = len(order)
    background.join()
    assert most == [1]
    assert wanted.shape == (40, 56)
    assert len(order) == 21
    assert came_at < 21, "a request does not wait for the whole of a long call"


def test_whoever_waits_comes_before_whoever_asks_again() -> None:
    """A plain lock goes to the thread that has just released it, and a long call would keep the device to itself."""
    turns, came = segmenter_module._Turns(), []

    def wait_for_turn() -> None:
        with turns:
            came.append("waiting")

    for _ in range(10):
        with turns:
            thread = threading.Thread(target=wait_for_turn)
            thread.start()
            somebody_waits(turns)
        with turns:
            came.append("again")
        thread.join()
    assert came == ["waiting", "again"] * 10


def test_a_turn_excludes_predictions(segmenter: Segmenter, draw: Draw) -> None:
    done = threading.Event()

    def predict() -> None:
        segmenter.segment([Query(draw(9).image, context(draw(1)))])
        done.set()

    with segmenter.turn():
        thread = threading.Thread(target=predict)
        thread.start()
        assert not done.wait(0.2)
    thread.join()
    assert done.is_set()


def test_a_checkpoint_is_named_by_its_file_and_its_numbers(small_model: SegGPT, tmp_path: Path) -> None:
    checkpoint.save(small_model, tmp_path / "my weights.safetensors")
    loaded = Segmenter.load(tmp_path / "my weights.safetensors", "cpu")
    assert loaded.identity == f"my-weights-{checkpoint.identity(small_model)}"
    assert loaded.image_size == 32
    with pytest.raises(checkpoint.CheckpointError):
        Segmenter.load(tmp_path / "none.pth")


def test_arguments_that_mean_nothing_are_value_errors(small_model: SegGPT) -> None:
    mode: Any = "mean"
    with pytest.raises(ValueError, match="ensemble must be one of"):
        Segmenter(small_model, ensemble=mode)
    with pytest.raises(ValueError, match="batch_size"):
        Segmenter(small_model, batch_size=0)
    with pytest.raises(ValueError, match="device"):
        Segmenter(small_model, device="abacus")


def test_half_precision_segments_nearly_alike(small_model: SegGPT, draw: Draw) -> None:
    query = Query(draw(9).image, context(draw(1), draw(2)))
    (wanted,) = Segmenter(small_model, dtype=torch.float32).segment([query])
    (halved,) = Segmenter(small_model, dtype=torch.bfloat16).segment([query])
    assert halved.dtype == np.float32
    assert np.abs(halved - wanted).mean() < 0.05


def test_pictures_are_described_for_retrieval(segmenter: Segmenter, draw: Draw) -> None:
    first, second = segmenter.describe(draw(1).image), segmenter.describe(draw(2).image)
    assert np.linalg.norm(first) == pytest.approx(1)
    assert not np.array_equal(first, second)


def test_importing_leaves_threads_and_files_alone(tmp_path: Path) -> None:
    """In a process of its own: the thread count is PyTorch's, and nothing is written where it runs."""
    root = Path(segmenter_module.__file__).parent.parent
    code = (
        "import torch; before = torch.get_num_threads(); import model.segmenter, model.evaluation, model.retrieval;"
        "import sys; sys.exit(before != torch.get_num_threads() or 'transformers' in sys.modules"
        " or 'huggingface_hub' in sys.modules)"
    )
    ended = subprocess.run(  # noqa: S603 - the code is above
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(root)}, check=False
    )
    assert ended.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_two_masks_under_one_key_are_not_mixed_up(segmenter: Segmenter) -> None:
    """The resized examples were kept by key alone: with one key for both, the second mask gave the first one's answer."""
    random = np.random.default_rng(5)
    image = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
    left = np.zeros((40, 40), np.bool_)
    left[:, :20] = True
    query = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
    answers = [
        segmenter.segment([Query(query, Context((Example("same", image, mask),)))])[0]
        for mask in (left, ~left)
    ]
    assert not np.array_equal(answers[0], answers[1])
