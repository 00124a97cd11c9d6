"""Replays the network's forward pass as CUDA graphs: nothing is launched kernel by kernel; knows no pictures.

A forward pass is some four hundred kernels. Where they are short, launching them takes longer than running them; a
graph launches all of them at once. It holds for one shape of inputs, and keeps the memory that the pass needs: where
kernels are long it brings nothing, so large shapes are not recorded.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from model.device import is_out_of_memory
from model.seggpt import Kind, SegGPT

log = logging.getLogger(__name__)

LIMIT = 16  # graphs kept
LARGEST = 2**22  # numbers in the hidden state of a shape that is recorded: ViT-L with up to four prompts

_Shape = tuple[torch.Size, Kind]
_Replay = Callable[[Tensor, Tensor, Tensor], Tensor]


class Graphs:
    """Calls a network as it would be called itself, through a graph from the second time that a small shape is seen.

    One thread at a time; the network's parameters must stay where they are. Without gradients.
    """

    def __init__(self, model: SegGPT, limit: int = LIMIT, largest: int = LARGEST) -> None:
        """Record nothing yet.

        Args:
            model: on a CUDA device, in evaluation mode.
            limit: graphs kept; the one not used for longest goes first.
            largest: numbers in one stack's hidden state beyond which nothing is recorded.
        """
        self._model = model
        self._largest = largest
        self._limit = limit
        self._seen: OrderedDict[_Shape, None] = OrderedDict()
        self._replays: OrderedDict[_Shape, _Replay] = OrderedDict()
        self._refused: set[_Shape] = set()

    def __call__(self, prompt_images: Tensor, prompt_masks: Tensor, query: Tensor, kind: Kind) -> Tensor:
        """As `SegGPT.forward`; the result is the caller's own."""
        shape = (prompt_images.shape, kind)
        if self._hidden(prompt_images) > self._largest:
            large: Tensor = self._model(prompt_images, prompt_masks, query, kind)
            return large
        if shape in self._replays:
            self._replays.move_to_end(shape)
            return self._replays[shape](prompt_images, prompt_masks, query)
        if shape not in self._seen or shape in self._refused:
            painted: Tensor = self._model(prompt_images, prompt_masks, query, kind)
            self._seen[shape] = None
            while len(self._seen) > 4 * self._limit:
                self._seen.popitem(last=False)
            return painted
        while len(self._replays) >= self._limit:
            self._replays.popitem(last=False)
        try:
            self._replays[shape] = self._record(prompt_images, prompt_masks, query, kind)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            log.warning("a CUDA graph could not be recorded, so this shape does without: %s", error)
            self._refused.add(shape)
            without: Tensor = self._model(prompt_images, prompt_masks, query, kind)
            return without
        return self._replays[shape](prompt_images, prompt_masks, query)

    def clear(self) -> bool:
        """Give up all graphs and their memory; whether there were any."""
        had_any = bool(self._replays)
        self._seen.clear()
        self._replays.clear()
        return had_any

    def _hidden(self, prompt_images: Tensor) -> int:
        """Numbers in the hidden state: canvases' halves, patches, channels."""
        B, P, _, H, W = prompt_images.shape
        config = self._model.config
        return B * (P + 1) * (H // config.patch_size) * (W // config.patch_size) * config.embed_dim

    def _record(self, prompt_images: Tensor, prompt_masks: Tensor, query: Tensor, kind: Kind) -> _Replay:
        inputs = [part.clone() for part in (prompt_images, prompt_masks, query)]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(query.device):
            torch.cuda.current_blas_handle()  # type: ignore[no-untyped-call]  # each thread has its own, and none can be made while recording
        # Other threads may use the device meanwhile: only this one's calls must be ones that can be recorded.
        with torch.cuda.device(query.device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            painted: Tensor = self._model(*inputs, kind)

        def replay(*given: Tensor) -> Tensor:
            for place, part in zip(inputs, given, strict=True):
                place.copy_(part)
            graph.replay()
            return painted.clone()

        return replay
