"""Pictures in, probability masks out: batches, ensembles, memory and the device's turn; knows no Label Studio.

NumPy outside, tensors inside. One segmenter serves all threads of a process.
"""

import hashlib
import math
import re
import threading
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import canvas
from model import checkpoint as checkpoints
from model import device as devices
from model.edges import Guide, ProbabilityMap
from model.example import Context, Example, Mask, Picture
from model.graphs import Graphs
from model.seggpt import Kind, SegGPT

Ensemble = Literal["feature", "spatial", "both"]

MOSAIC_EXAMPLES = 4  # examples in one mosaic, where mosaics are feature-ensembled
BATCH, CUDA_BATCH = 8, 32  # pairs of prompt and query computed at once; a card is busy from about 32 on
CACHE_BYTES = 256 * 2**20  # resized examples kept


@dataclass(frozen=True, eq=False)
class Query:
    """One picture to segment and what to segment it by.

    Attributes:
        image: whatever `model.canvas.to_rgb` takes, of any size.
        context: at least one example or a tuned prompt.
        kind: what the context's masks mean.
    """

    image: NDArray[Any]
    context: Context
    kind: Kind = "semantic"


class Segmenter:
    """Segments queries by their contexts with one network on one device.

    Attributes:
        model: the network, on `device` in `dtype`, in evaluation mode; its parameters must not be changed.
        device: where it computes.
        dtype: what it computes in.
        narrowed: whether its linear layers multiply in bfloat16 all the same.
        identity: the checkpoint's name and a fingerprint of its numbers, such as "embedded-1a2b3c4d".
    """

    def __init__(
        self,
        model: SegGPT,
        *,
        name: str = "custom",
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        ensemble: Ensemble = "feature",
        batch_size: int | None = None,
        guided: bool = False,
    ) -> None:
        """Take over a loaded network and move it to the device.

        Args:
            model: in float32; its numbers may be rounded, so it is this segmenter's from now on.
            name: first part of `identity`.
            device: as for `load`.
            dtype: what to compute in; None chooses by a self-test, and lets linear layers multiply in bfloat16 where a
                CPU has units for it.
            ensemble: as for `load`.
            batch_size: as for `load`.
            guided: as for `load`.
        """
        if ensemble not in get_args(Ensemble):
            raise ValueError(f"ensemble must be one of {get_args(Ensemble)}, not {ensemble!r}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.device = devices.choose(device)
        self.dtype = dtype or devices.choose_dtype(self.device)
        self.identity = f"{name}-{checkpoints.identity(model)}"
        self.model = model.eval().requires_grad_(False).to(self.device, self.dtype)
        self.narrowed = dtype is None and self.dtype == torch.float32 and devices.narrows(self.device)
        if self.narrowed:
            self.model.narrow()
        self._compute = self._fastest()
        self._ensemble = ensemble
        self._batch_size = batch_size or (CUDA_BATCH if self.device.type == "cuda" else BATCH)
        self._guided = guided
        self._examples = _ExampleCache(model.config.image_size)
        self._turns = _Turns()

    @classmethod
    def load(
        cls,
        checkpoint: str | Path = "embedded",
        device: str = "auto",
        *,
        ensemble: Ensemble = "feature",
        batch_size: int | None = None,
        guided: bool = False,
    ) -> "Segmenter":
        """Load a checkpoint onto a device.

        Args:
            checkpoint: as `model.checkpoint.load` takes it.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            ensemble: how several examples are used together. "feature": each is a prompt, and the network averages
                over them; "spatial": all of them in one mosaic, which is one prompt; "both": mosaics of
                `MOSAIC_EXAMPLES`, feature-ensembled. A tuned prompt is always a prompt of its own.
            batch_size: most pairs of prompt and query that are computed at once; a single query is never split. None:
                `CUDA_BATCH` on CUDA, else `BATCH`.
            guided: let the masks of `maps` follow the edges of their pictures.

        Raises:
            CheckpointError: if the checkpoint cannot be used.
            ValueError: if the device or the ensemble is unknown or not there.
        """
        name = re.sub(r"\.(safetensors|pth|pt|bin)$", "", Path(checkpoint).name)
        name = re.sub(r"[^\w.-]+", "-", name) or "custom"
        model = checkpoints.load(checkpoint)
        return cls(
            model,
            name=name,
            device=device,
            ensemble=ensemble,
            batch_size=batch_size,
            guided=guided,
        )

    def _fastest(self) -> SegGPT | Graphs:
        """Choose the forms that the network computes by, and what to call for it."""
        config = self.model.config
        channels = config.embed_dim // config.num_heads
        grid = (config.side, config.side)
        form = devices.choose_attention(self.device, self.dtype, grid, config.num_heads, channels)
        on_cuda = self.device.type == "cuda"
        self.model.use(form, fused_mlp=on_cuda and self.dtype != torch.float32)
        return Graphs(self.model) if on_cuda else self.model

    @property
    def image_size(self) -> int:
        """Side in pixels of the square in which the network sees a picture."""
        return self.model.config.image_size

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the device to oneself. Waiters are let in between two batches, for whoever uses `model` directly."""
        with self._turns:
            yield

    def release(self) -> bool:
        """Where memory ran out: give up graphs and cached memory; whether there were graphs, so that the same may fit now.

        To be called after `except`, not inside it: the error's frames would keep the failed batch's memory.
        """
        with self._turns:
            freed = isinstance(self._compute, Graphs) and self._compute.clear()
            devices.release(self.device)
        return freed

    def describe(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Descriptor of a picture for `model.retrieval`: `[D]` float32 of unit length, the same for any checkpoint.

        Args:
            image: whatever `model.canvas.to_rgb` takes.
        """
        return canvas.describe(image)

    def segment(self, queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        """Segment queries, and enlarge their maps: as `maps`, which see, but four bytes a pixel of each picture.

        Returns:
            One map a query, `[H, W]` float32 of the query's own size: the probability, 0 to 1, of the target.
        """
        return [found.whole() for found in self.maps(queries)]

    def maps(self, queries: Sequence[Query]) -> list[ProbabilityMap]:
        """Segment queries; their contexts may differ in everything, also in the number of examples.

        A result depends neither on the order of its context's examples nor on the other queries.

        Returns:
            One map a query: of the network's size, and brought to the query's own when it is asked for something.

        Raises:
            ValueError: if a picture cannot be read or a context does not fit.
            DeviceMemoryError: if not even one query fits into memory.
        """
        groups: dict[tuple[int, Kind], list[int]] = defaultdict(list)
        for index, query in enumerate(queries):
            groups[self._count_prompts(query.context), query.kind].append(index)
        seen = _Seen(self.image_size)
        results: dict[int, ProbabilityMap] = {}
        for (count, kind), waiting in groups.items():
            size = max(1, self._batch_size // count)
            while waiting:
                batch = waiting[:size]
                maps = self._attempt([queries[index] for index in batch], kind, seen)
                if maps is None:
                    size = self._smaller(len(batch), count)
                    continue
                waiting = waiting[len(batch) :]
                for index, probability in zip(batch, maps, strict=True):
                    image = queries[index].image
                    guide = seen.guide(image) if self._guided else None
                    results[index] = ProbabilityMap(
                        probability.numpy(), image.shape[0], image.shape[1], guide
                    )
        return [results[index] for index in range(len(queries))]

    def _count_prompts(self, context: Context) -> int:
        if not len(context):
            raise ValueError("a query's context needs at least one example or a tuned prompt")
        return len(self._mosaic_bounds(len(context.examples))) + (context.prompt is not None)

    def _mosaic_bounds(self, examples: int) -> list[tuple[int, int]]:
        """Which examples, from and to, become one prompt each; as equal shares as can be."""
        prompts = {
            "feature": examples,
            "spatial": min(1, examples),
            "both": math.ceil(examples / MOSAIC_EXAMPLES),
        }[self._ensemble]
        return [(examples * part // prompts, examples * (part + 1) // prompts) for part in range(prompts)]

    def _smaller(self, failed: int, prompts: int) -> int:
        if failed > 1:
            return failed // 2
        raise devices.DeviceMemoryError(
            f"{self.device} has not enough memory for one query with {prompts} prompts at {self.image_size} px: "
            "use fewer examples, a smaller checkpoint, or another device"
        )

    def _attempt(self, queries: Sequence[Query], kind: Kind, seen: "_Seen") -> list[Tensor] | None:
        """Probability maps `[S, S]` on the CPU, one a query; None where memory ran out."""
        try:
            prompts = [self._prompts(query.context, seen) for query in queries]
            inputs = (
                torch.stack([images for images, _ in prompts]),
                torch.stack([masks for _, masks in prompts]),
                torch.stack([seen.tensor(query.image) for query in queries]),
            )
            with self._turns, torch.inference_mode():
                images, masks, pictures = (part.to(self.device, self.dtype) for part in inputs)
                painted = self._compute(images, masks, pictures, kind)
                return list(canvas.probability(painted).cpu())
        except (RuntimeError, MemoryError) as error:
            if not devices.is_out_of_memory(error):
                raise
        return self._attempt(queries, kind, seen) if self.release() else None

    def _prompts(self, context: Context, seen: "_Seen") -> tuple[Tensor, Tensor]:
        """Images and painted masks of a context's prompts, both `[P, 3, S, S]` float32.

        Examples are ordered by content: the network reads a row of the first prompt beyond what it averages, so any
        other order would let the caller's order matter.
        """
        same = (*map(id, context.examples), id(context.prompt))
        if seen.prompts is not None and seen.prompts[0] == same:
            return seen.prompts[1]
        size = self.image_size
        prepared = [seen.example(example, self._examples) for example in context.examples]
        ordered = sorted(prepared, key=lambda example: example.digest)
        images, masks = [], []
        if context.prompt is not None:
            images.append(_learned(context.prompt.image, size))
            masks.append(_learned(context.prompt.mask, size))
        for low, high in self._mosaic_bounds(len(ordered)):
            picture, mask = _mosaic(ordered[low:high], size)
            images.append(canvas.normalise(torch.from_numpy(picture).permute(2, 0, 1)))
            masks.append(canvas.paint(torch.from_numpy(mask)))
        prompts = torch.stack(images), torch.stack(masks)
        seen.prompts = same, prompts
        return prompts


@dataclass(frozen=True, eq=False)
class _Prepared:
    """An example at the network's size, with a digest of its content."""

    picture: Picture
    mask: Mask
    digest: bytes


class _ExampleCache:
    """Resized examples by key, the last used ones, up to `CACHE_BYTES`: the same come again with every query."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._limit = max(1, CACHE_BYTES // (4 * size * size))
        self._kept: OrderedDict[tuple[str, int, int], _Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(self, example: Example) -> _Prepared:
        # A key that is used for two contents, such as two masks of one image, must not mix them up in silence.
        image_sum, mask_sum = (
            zlib.crc32(np.ascontiguousarray(part).data) for part in (example.image, example.mask)
        )
        key = (example.key, image_sum, mask_sum)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        picture = canvas.resize_picture(example.image, self._size, self._size)
        mask = canvas.resize_mask(example.mask, self._size, self._size)
        digest = hashlib.blake2b(picture.tobytes() + mask.tobytes(), digest_size=16).digest()
        prepared = _Prepared(picture, mask, digest)
        with self._lock:
            self._kept[key] = prepared
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return prepared


class _Seen:
    """What one call has seen: pictures of several labels, examples of several queries, and the last context's prompts.

    By identity, as the caller's queries keep all of it alive during the call.
    """

    def __init__(self, size: int) -> None:
        self.prompts: tuple[tuple[int, ...], tuple[Tensor, Tensor]] | None = None
        self._size = size
        self._tensors: dict[int, Tensor] = {}
        self._guides: dict[int, Guide] = {}
        self._examples: dict[int, _Prepared] = {}

    def example(self, example: Example, kept: _ExampleCache) -> _Prepared:
        if id(example) not in self._examples:
            self._examples[id(example)] = kept.prepare(example)
        return self._examples[id(example)]

    def tensor(self, image: NDArray[Any]) -> Tensor:
        if id(image) not in self._tensors:
            self._tensors[id(image)] = canvas.image_tensor(image, self._size)
        return self._tensors[id(image)]

    def guide(self, image: NDArray[Any]) -> Guide:
        if id(image) not in self._guides:
            self._guides[id(image)] = Guide(canvas.to_rgb(image))
        return self._guides[id(image)]


class _Turns:
    """A lock that nobody can take twice while another waits: who waits first holds the door, and the rest queue."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._room = threading.Lock()

    def __enter__(self) -> None:
        with self._door:
            self._room.acquire()

    def __exit__(self, *_: object) -> None:
        self._room.release()


def _learned(pixels: NDArray[np.float32], size: int) -> Tensor:
    if pixels.shape != (3, size, size):
        raise ValueError(
            f"a tuned prompt for this checkpoint is [3, {size}, {size}], not {list(pixels.shape)}"
        )
    return torch.from_numpy(np.array(pixels, dtype=np.float32))


def _mosaic(examples: Sequence[_Prepared], size: int) -> tuple[Picture, Mask]:
    """Lay examples out in a square grid, row by row, and bring it to `size`; cells left over repeat the first ones."""
    side = math.ceil(math.sqrt(len(examples)))
    if side == 1:
        return examples[0].picture.copy(), examples[0].mask.copy()
    picture = np.empty((side * size, side * size, 3), dtype=np.uint8)
    mask = np.empty((side * size, side * size), dtype=np.bool_)
    for cell in range(side * side):
        example = examples[cell % len(examples)]
        rows = slice(cell // side * size, (cell // side + 1) * size)
        columns = slice(cell % side * size, (cell % side + 1) * size)
        picture[rows, columns], mask[rows, columns] = example.picture, example.mask
    return canvas.resize_picture(picture, size, size).copy(), canvas.resize_mask(mask, size, size).copy()
