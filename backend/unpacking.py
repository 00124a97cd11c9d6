"""Records of the store to what the network takes; knows neither who asks nor what for."""

from backend.store import PromptRecord, StoredExample
from backend.store.pictures import unpack_image, unpack_mask
from backend.store.tensors import PromptFile, unpack_prompt
from model.example import Example, Prompt


def example(stored: StoredExample) -> Example:
    """A stored example with its arrays."""
    return Example(stored.info.key, unpack_image(stored.image), unpack_mask(stored.mask))


def prompt_key(record: PromptRecord) -> str:
    """The key of a version's prompt, other than any example's; contexts are recorded with it."""
    return f"{record.project}/prompt/{record.number}"


def prompt(record: PromptRecord, content: bytes) -> Prompt:
    """A version's prompt, from the file that its tensors are kept in.

    Raises:
        BadRequest: if the file cannot be read.
    """
    return prompt_of(prompt_key(record), unpack_prompt(content))


def prompt_of(key: str, file: PromptFile) -> Prompt:
    """The prompt in a file; what an earlier backend wrote does not say how large the objects were."""
    side = file.card.figures.get("object_side") or 0.0
    return Prompt(key, file.image, file.mask, side if 0 <= side <= 1 else 0.0)
