"""Sound image files of every kind that is read, and files that claim to be far larger than they are."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, features

from tests.backend.stage import encoded

SIZES = [(1, 1), (1, 20_000), (20_000, 1), (24, 16)]


def painted(mode: str, size: tuple[int, int]) -> Image.Image:
    """Noise in a mode of Pillow's."""
    width, height = size
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(noise[..., 0].astype(np.float32) * 1e6 - 1e8)
    return Image.fromarray(noise, "RGBA" if mode == "RGBA" else None).convert(mode)


def frames(size: tuple[int, int]) -> dict[str, Any]:
    return {"save_all": True, "append_images": [painted("RGB", size), painted("L", size)]}


def _saved(form: str, mode: str, **options: Any) -> Callable[[tuple[int, int]], bytes]:
    return lambda size: encoded(painted(mode, size), form, **options)


def _moving(form: str, mode: str = "RGB") -> Callable[[tuple[int, int]], bytes]:
    return lambda size: encoded(painted(mode, size), form, **frames(size))


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


KINDS: dict[str, Callable[[tuple[int, int]], bytes]] = {
    **{f"PNG {mode}": _saved("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "PNG palette with transparency": _saved("PNG", "P", transparency=b"\0\x80\xff"),
    "PNG turned": _saved("PNG", "RGB", exif=turned(5)),
    "PNG moving": _moving("PNG"),
    **{f"JPEG {mode}": _saved("JPEG", mode) for mode in ("L", "RGB", "CMYK")},
    "JPEG progressive and turned": _saved("JPEG", "RGB", progressive=True, exif=turned(6)),
    "MPO": _moving("MPO"),
    **{f"GIF {mode}": _saved("GIF", mode) for mode in ("1", "P", "RGB")},
    "GIF moving": _moving("GIF"),
    **{
        f"TIFF {mode}": _saved("TIFF", mode)
        for mode in ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F", "YCbCr", "LAB")
    },
    **{
        f"TIFF {name}": _saved("TIFF", "RGB", compression=name)
        for name in ("tiff_lzw", "tiff_deflate", "jpeg")
    },
    "TIFF of several pages": _moving("TIFF"),
    **{f"BMP {mode}": _saved("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")},
    "PPM": _saved("PPM", "RGB"),
    **({"JPEG2000": _saved("JPEG2000", "RGB")} if features.check("jpg_2000") else {}),
}
_BOUNDED: dict[str, Callable[[tuple[int, int]], bytes]] = {  # these know no side of 20,000 pixels
    "WebP": _saved("WEBP", "RGB"),
    "WebP with alpha": _saved("WEBP", "RGBA", lossless=True),
    "WebP moving": _moving("WEBP"),
    **({"AVIF": _saved("AVIF", "RGB")} if features.check("avif") else {}),
}
CASES = [
    (f"{kind} {width}x{height}", make, (width, height))
    for kind, make in KINDS.items()
    for width, height in SIZES
]
CASES += [(f"{kind} 24x16", make, (24, 16)) for kind, make in _BOUNDED.items()]
SOUND = [make((24, 16)) for make in (KINDS | _BOUNDED).values()]


# -- files that claim much -------------------------------------------------------------------------------------------
def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(side: int) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(10**7))) + _chunk(b"IEND", b"")


def bombs(side: int) -> dict[str, bytes]:
    """Files of at most a few kilobytes that claim `side` x `side` pixels."""
    small = {name: encoded(painted("RGB", (24, 16)), name) for name in ("BMP", "GIF", "TIFF", "JPEG", "WEBP")}
    bmp, gif, tiff, jpeg = (bytearray(small[name]) for name in ("BMP", "GIF", "TIFF", "JPEG"))
    struct.pack_into("<ii", bmp, 18, side, side)
    struct.pack_into("<HH", gif, 6, side, side)
    frame = bytearray(small["GIF"])  # a small screen whose first frame is large
    struct.pack_into("<HH", frame, frame.index(b",\0\0\0\0") + 5, side, side)
    for tag in (256, 257):
        at = next(
            tiff.index(struct.pack("<HHI", tag, kind, 1))
            for kind in (3, 4)
            if struct.pack("<HHI", tag, kind, 1) in tiff
        )
        struct.pack_into("<HHII", tiff, at, tag, 4, 1, side)
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, side, side)
    webp = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (side - 1).to_bytes(3, "little") * 2
    return {
        "PNG": png_bomb(side),
        "BMP": bytes(bmp),
        "GIF": bytes(gif),
        "GIF frame": bytes(frame),
        "TIFF": bytes(tiff),
        "JPEG": bytes(jpeg),
        "PPM": f"P6 {side} {side} 255\n".encode() + bytes(100),
        "WebP": b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp,
    }
