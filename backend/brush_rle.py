"""Codec of Label Studio's brush masks, a bit-packed run-length code over RGBA bytes; knows no regions and no labels.

A stream is 32 bits for the number of words, 5 bits for the word size less one, four times 4 bits for the sizes of the
length fields less one, then packets: 1 bit (run or literal), 2 bits that choose a length field, the length less one,
and one word for a run or as many words as the length says for a literal. Bits are packed from the highest down.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backend.errors import RegionError

CHANNELS = 4
OPAQUE = 255

Ints: TypeAlias = NDArray[np.int64]

_WORD = 8
_LENGTH_FIELDS = (3, 4, 8, 16)
_LONGEST = 1 << _LENGTH_FIELDS[-1]
_HEADER_BITS = 32 + 5 + 4 * 4
_TRAILING_BYTES = 1
_SMALLEST_PACKET_BITS = 3 + 1 + _WORD
_CHUNK_BITS = 1 << 21
_WINDOW = 8
_PADDING = 8
_LONG_RUNS = 256


def encode(mask: NDArray[Any]) -> list[int]:
    """Encode a mask as the editor itself does: all four channels of a pixel are 255 inside and 0 outside.

    Args:
        mask: bool [H, W], at least one pixel; any other dtype counts as inside where it is not 0.

    Returns:
        Bytes 0 to 255. The stream has whole bytes and no spurious one at its end.

    Raises:
        RegionError: the mask has not two dimensions, or no pixel.
    """
    if mask.ndim != 2 or not mask.size:
        raise RegionError(f"A brush mask has the shape height x width, not {mask.shape}.")
    flat = np.ascontiguousarray(mask, dtype=np.bool_).reshape(-1)
    return _encode(np.flatnonzero(flat[1:] != flat[:-1]) + 1, bool(flat[0]), flat.size)


def encode_runs(starts: Ints, ends: Ints, height: int, width: int) -> list[int]:
    """Encode a mask that is given by its runs of pixels, without painting it.

    Args:
        starts: int [N], the first pixel of each run, counted along the rows; ascending.
        ends: int [N], the pixel after each run's last one. Runs may touch, not overlap.
        height: rows of the mask.
        width: columns of the mask.

    Returns:
        As `encode`.
    """
    opens = np.ones(len(starts), dtype=np.bool_)
    opens[1:] = starts[1:] != ends[:-1]
    starts, ends = starts[opens], ends[np.roll(opens, -1)]
    total = height * width
    changes = np.stack([starts, ends], axis=1).reshape(-1)
    return _encode(changes[(changes > 0) & (changes < total)], bool(len(starts)) and starts[0] == 0, total)


def decode(rle: Sequence[int] | bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Decode a mask, whoever wrote it; nothing is allocated before the stated size was checked.

    Args:
        rle: bytes 0 to 255.
        height: rows of the mask.
        width: columns of the mask.

    Returns:
        The alpha channel, uint8 [height, width], 0 to 255.

    Raises:
        RegionError: not a stream of bytes, another size than `height` x `width` x 4 bytes, cut off, or too long.
    """
    data = _bytes(rle)
    if height < 1 or width < 1:
        raise RegionError(f"A brush mask of {height} x {width} pixels cannot be decoded.")
    fields = _header(data, height * width * CHANNELS)
    return _unpack(data, fields, height * width).reshape(height, width)


def _encode(changes: Ints, inside: bool, total: int) -> list[int]:
    """Encode the mask that begins `inside` or not, and changes at these pixels."""
    lengths: Ints = np.diff(changes, prepend=0, append=total) * CHANNELS
    words: Ints = np.zeros(len(lengths), dtype=np.int64)
    words[0 if inside else 1 :: 2] = OPAQUE
    lengths, words = _split_long_runs(lengths, words)
    return list(_pack(lengths, words, total * CHANNELS).tobytes())


def _split_long_runs(lengths: Ints, words: Ints) -> tuple[Ints, Ints]:
    pieces = (lengths + _LONGEST - 1) // _LONGEST
    if not (pieces > 1).any():
        return lengths, words
    split = np.full(int(pieces.sum()), _LONGEST, dtype=np.int64)
    split[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _LONGEST
    return split, np.repeat(words, pieces)


def _pack(lengths: Ints, words: Ints, total: int) -> NDArray[np.uint8]:
    limits = np.array([1 << bits for bits in _LENGTH_FIELDS[:-1]])
    choice = np.searchsorted(limits, lengths)
    field = np.array(_LENGTH_FIELDS)[choice]
    packets = ((4 | choice) << field | (lengths - 1)) << _WORD | words
    sizes = 3 + field + _WORD
    ends = np.cumsum(sizes) + _HEADER_BITS
    bits = int(ends[-1])
    header = total << 21 | (_WORD - 1) << 16
    for position, size in enumerate(_LENGTH_FIELDS):
        header |= (size - 1) << 4 * (3 - position)
    stream = np.zeros(bits // 32 + 2, dtype=np.uint64)
    stream[0], stream[1] = header >> 21, (header & 0x1FFFFF) << 11
    word, shift = np.divmod(ends - sizes, 32)
    aligned = packets.astype(np.uint64) << (64 - sizes - shift).astype(np.uint64)
    np.add.at(stream, word, aligned >> np.uint64(32))
    np.add.at(stream, word + 1, aligned & np.uint64(0xFFFFFFFF))
    return stream.astype(">u4").view(np.uint8)[: (bits + 7) // 8]


def _bytes(rle: Sequence[int] | bytes) -> bytes:
    if not isinstance(rle, bytes | list | tuple):
        raise RegionError(f"A brush mask is a list of bytes, not {type(rle).__name__}.")
    try:
        return bytes(rle)
    except (TypeError, ValueError) as error:
        raise RegionError(f"A brush mask is a list of whole numbers from 0 to 255: {error}.") from error


def _header(data: bytes, expected: int) -> list[int]:
    if 8 * len(data) < _HEADER_BITS:
        raise RegionError(f"The brush mask is cut off: {len(data)} bytes do not hold its header.")
    header = int.from_bytes(data[:7], "big") >> 56 - _HEADER_BITS
    total, word = header >> 21, (header >> 16 & 31) + 1
    if word != _WORD:
        raise RegionError(f"The brush mask has words of {word} bits, not {_WORD}.")
    if total != expected:
        raise RegionError(f"The brush mask says that it holds {total} bytes, but its image needs {expected}.")
    fields = [(header >> 4 * (3 - position) & 15) + 1 for position in range(4)]
    fewest = -(-total >> max(fields))
    if 8 * len(data) < _HEADER_BITS + fewest * _SMALLEST_PACKET_BITS:
        raise RegionError(f"The brush mask is cut off: {len(data)} bytes cannot hold {total}.")
    return fields


def _unpack(data: bytes, fields: list[int], pixels: int) -> NDArray[np.uint8]:
    alpha = np.zeros(pixels, dtype=np.uint8)
    padded = np.frombuffer(data + bytes(_PADDING), dtype=np.uint8)
    strides = _strides(fields)
    end, total, done, start = 8 * len(data), pixels * CHANNELS, 0, _HEADER_BITS
    while done < total:
        if start >= end:
            raise RegionError(f"The brush mask is cut off after {done} of {total} bytes.")
        packets, start = _walk(padded, start, end, fields, strides)
        lengths, places, ends = _expand(padded, packets, fields)
        reached = done + np.cumsum(lengths)
        last = int(np.searchsorted(reached, total))
        if last < len(reached):
            whole = last + 1 == len(reached) or bool(np.isin(ends[last], packets))
            if reached[last] != total or not whole:
                raise RegionError(f"The brush mask holds more than its {total} bytes.")
            lengths, places, reached = lengths[: last + 1], places[: last + 1], reached[: last + 1]
            start = int(ends[last])
        _paint(alpha, done, reached, _read(padded, places, _WORD))
        done = int(reached[-1])
    if start > end:
        raise RegionError("The brush mask is cut off within its last bytes.")
    if len(data) - (start + 7) // 8 > _TRAILING_BYTES:
        raise RegionError("The brush mask goes on after its last byte.")
    return alpha


def _strides(fields: list[int]) -> bytes:
    """For every 8 bits that may begin a packet, the packet's bits; 0 where 8 bits do not tell."""
    strides = bytearray(1 << _WINDOW)
    for bits in range(1 << _WINDOW):
        field = fields[bits >> 5 & 3]
        if bits >> 7:
            strides[bits] = 3 + field + _WORD
        elif 3 + field <= _WINDOW:
            count = (bits >> _WINDOW - 3 - field & (1 << field) - 1) + 1
            size = 3 + field + _WORD * count
            strides[bits] = size if size < 256 else 0
    return bytes(strides)


def _walk(
    data: NDArray[np.uint8], start: int, end: int, fields: list[int], strides: bytes
) -> tuple[Ints, int]:
    """The bit positions of the packets that begin in the next chunk, and that of the first one after it.

    Only this walk from packet to packet is sequential, so it does one look-up and one addition for each; all else is
    done for a whole chunk at once.
    """
    base = start >> 3 << 3
    stop = min(end, base + _CHUNK_BITS)
    chunk = data[base >> 3 : (stop + 7 >> 3) + 1].astype(np.uint16)
    pairs = chunk[:-1] << 8 | chunk[1:]
    windows = pairs[:, None] >> np.arange(8, 0, -1, dtype=np.uint16)
    steps = windows.astype(np.uint8).tobytes().translate(strides)
    positions: list[int] = []
    add = positions.append
    here, stop = start - base, stop - base
    while here < stop:
        add(here)
        step = steps[here]
        if step:
            here += step
        else:
            place = np.array([base + here])
            field = fields[int(_read(data, place + 1, 2)[0])]
            here += 3 + field + _WORD * (int(_read(data, place + 3, field)[0]) + 1)
    return np.array(positions, dtype=np.int64) + base, base + here


def _expand(data: NDArray[np.uint8], packets: Ints, fields: list[int]) -> tuple[Ints, Ints, Ints]:
    """What the packets hold, as runs: their lengths in words, where their word is, and where it or its packet ends."""
    kinds = _read(data, packets, 3)
    field = np.array(fields)[kinds & 3]
    counts = _read(data, packets + 3, 16) >> 16 - field
    counts += 1
    places = packets + 3 + field
    literal = kinds < 4
    if not literal.any():
        return counts, places, places + _WORD
    words = np.where(literal, counts, 1)
    lengths = np.repeat(np.where(literal, 1, counts), words)
    firsts = np.cumsum(words) - words
    places = np.repeat(places - _WORD * firsts, words) + _WORD * np.arange(len(lengths))
    return lengths, places, places + _WORD


def _paint(alpha: NDArray[np.uint8], done: int, reached: Ints, words: Ints) -> None:
    """Write the runs' alpha bytes: of the words in [start, end), end // 4 - start // 4 are the last of a pixel."""
    ends = reached // CHANNELS
    starts = np.concatenate(([done // CHANNELS], ends[:-1]))
    first, last = int(starts[0]), int(ends[-1])
    if last - first < _LONG_RUNS * len(words):
        alpha[first:last] = np.repeat(words.astype(np.uint8), ends - starts)
        return
    # Few and long runs: `alpha` is 0 already, and memory that is never touched costs nothing.
    marked = np.flatnonzero(words)
    for start, end, word in np.stack([starts, ends, words])[:, marked].T.tolist():
        alpha[start:end] = word


def _read(data: NDArray[np.uint8], places: Ints, bits: int) -> Ints:
    """The `bits` (at most 16) bits at each bit position; bits behind the data read as 0."""
    byte = np.minimum(places >> 3, len(data) - 3)
    three = data[byte].astype(np.int64) << 16
    three |= data[byte + 1].astype(np.int64) << 8
    three |= data[byte + 2]
    found: Ints = three >> 24 - bits - (places & 7) & (1 << bits) - 1
    return found
