import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from backend.errors import ImageError
from backend.images.decoding import decode

LIMIT = 10**6


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners() -> Image.Image:
    """60 x 40, white on black, with a bright patch in the upper left corner only."""
    image = Image.new("RGB", (60, 40))
    ImageDraw.Draw(image).rectangle((0, 0, 19, 9), fill=(255, 255, 255))
    return image


def oriented(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(corners(), kind, exif=exif)


def patch(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is bright, bottom and right excluded."""
    rows, columns = np.nonzero(pixels.mean(axis=2) > 127)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


@pytest.mark.parametrize(
    ("orientation", "size", "where"),
    [
        (1, (40, 60), (0, 10, 0, 20)),
        (2, (40, 60), (0, 10, 40, 60)),
        (3, (40, 60), (30, 40, 40, 60)),
        (4, (40, 60), (30, 40, 0, 20)),
        (5, (60, 40), (0, 20, 0, 10)),
        (6, (60, 40), (0, 20, 30, 40)),
        (7, (60, 40), (40, 60, 30, 40)),
        (8, (60, 40), (40, 60, 0, 10)),
        (77, (40, 60), (0, 10, 0, 20)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_camera_photo_is_turned_as_the_editor_shows_it(
    kind: str, orientation: int, size: tuple[int, int], where: tuple[int, ...]
) -> None:
    pixels = decode(oriented(orientation, kind), LIMIT)
    assert pixels.shape == (*size, 3)
    assert np.abs(np.subtract(patch(pixels), where)).max() <= (1 if kind in {"JPEG", "WEBP"} else 0)


def ramp() -> NDArray[np.uint16]:
    return np.linspace(800, 1400, 30 * 40).reshape(30, 40).astype(np.uint16)


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda values: file_of(Image.fromarray(values)),
        lambda values: file_of(Image.fromarray(values), "TIFF"),
        tiff,
        lambda values: tiff(values.astype(">u2"), byteorder=">"),
        lambda values: tiff(values.astype(np.int32)),
        lambda values: tiff(values.astype(np.float32)),
    ],
    ids=["png", "tiff by pillow", "tiff", "tiff big endian", "tiff 32 bit", "tiff float"],
)
def test_a_16_bit_image_is_seen_like_its_own_8_bit_stretch(make: Callable[[NDArray[Any]], bytes]) -> None:
    values = ramp()
    stretch = np.rint((values.astype(np.float64) - 800) * (255 / 600)).astype(np.uint8)
    pixels = decode(make(values), LIMIT)
    assert np.array_equal(pixels, np.repeat(stretch[:, :, None], 3, axis=2))
    assert np.array_equal(pixels, decode(file_of(Image.fromarray(stretch)), LIMIT))


def test_a_flat_16_bit_image_and_floats_that_are_no_numbers_do_not_fail() -> None:
    assert decode(file_of(Image.fromarray(np.full((3, 4), 700, np.uint16))), LIMIT).shape == (3, 4, 3)
    assert not decode(tiff(np.full((3, 4), np.nan, np.float32)), LIMIT).any()
    odd = np.array([[np.nan, 900.0, np.inf, 1000.0]], np.float32)
    assert decode(tiff(odd), LIMIT)[0, :, 0].tolist() == [0, 0, 255, 255]
    shares = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert decode(tiff(shares), LIMIT)[0, :, 0].tolist() == [0, 128, 255]


def half_transparent(mode: str) -> Image.Image:
    """Left half black and opaque, right half transparent."""
    image = Image.new("LA", (4, 2), (0, 255))
    image.paste((0, 0), (2, 0, 4, 2))
    return image.convert(mode)


def keyed(mode: str, colour: int | tuple[int, int, int]) -> bytes:
    """Left half black, right half of the one colour that is declared transparent."""
    image = Image.new(mode, (4, 2))
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 0, 0])
    image.paste(colour, (2, 0, 4, 2))
    return file_of(image, transparency=colour)


@pytest.mark.parametrize(
    "content",
    [
        file_of(half_transparent("LA")),
        file_of(half_transparent("RGBA")),
        file_of(half_transparent("RGBA"), "WEBP", lossless=True),
        file_of(half_transparent("RGBA"), "TIFF"),
        keyed("P", 1),
        keyed("L", 9),
        keyed("1", 1),
        keyed("RGB", (9, 8, 7)),
    ],
    ids=["LA", "RGBA", "WebP", "TIFF", "palette key", "grey key", "bit key", "colour key"],
)
def test_transparent_parts_are_white(content: bytes) -> None:
    pixels = decode(content, LIMIT)
    assert pixels[0, 3].tolist() == [255, 255, 255]
    assert pixels[0, 0].tolist() == [0, 0, 0]


def test_one_bit_grey_palette_and_cmyk_are_brought_to_rgb() -> None:
    bits = Image.new("1", (4, 2), 1)
    bits.putpixel((0, 0), 0)
    assert decode(file_of(bits), LIMIT)[0, :2].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert decode(file_of(Image.new("L", (4, 2), 77)), LIMIT)[1, 3].tolist() == [77, 77, 77]
    opaque = Image.new("LA", (4, 2), (77, 255)).convert("PA")
    assert decode(file_of(opaque, "TIFF"), LIMIT)[0, 0].tolist() == [77, 77, 77]
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    assert decode(file_of(red.quantize(4)), LIMIT)[0, 0].tolist() == [255, 0, 0]
    for content in (file_of(red.convert("CMYK"), "JPEG", quality=100), file_of(red.convert("CMYK"), "TIFF")):
        assert np.abs(decode(content, LIMIT)[8, 8].astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize(
    ("kind", "options"), [("TIFF", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})]
)
def test_of_several_pages_or_frames_the_first_is_taken(kind: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    pixels = decode(file_of(frames[0], kind, save_all=True, append_images=frames[1:], **options), LIMIT)
    assert pixels.shape == (10, 20, 3)
    assert pixels[5, 5].tolist() == [250, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
def test_very_long_and_very_small_images_are_read(size: tuple[int, int]) -> None:
    assert decode(file_of(Image.new("RGB", size, (1, 2, 3))), LIMIT).shape == (size[1], size[0], 3)


def test_pixels_are_shared_so_nobody_may_write_them() -> None:
    assert not decode(file_of(corners()), LIMIT).flags.writeable


def png_claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(1001, 1000), (10_000, 9_500), (15_000, 15_000), (100_000, 100_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=r"pixels|too large") as caught:
        decode(png_claiming(*size), LIMIT)
    assert "MAX_IMAGE_PIXELS" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
        (b"<html></html>", "web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<Error><Code>AccessDenied</Code></Error>", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        (b"not an image at all", "no image"),
        (file_of(corners())[:60], "damaged"),
        (oriented(1)[:400], "damaged"),
        (file_of(corners(), "GIF")[:60], "damaged"),
        (b"\x89PNG\r\n\x1a\n", "no image|damaged"),
    ],
)
def test_what_is_no_sound_image_is_said_to_be_so(content: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode(content, LIMIT)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_exif_block_costs_the_turn_only() -> None:
    content = file_of(corners(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x09" * 9)
    assert decode(content, LIMIT).shape == (40, 60, 3)


def test_an_orientation_that_cannot_be_read_costs_the_turn_only() -> None:
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n4\nno hexadecimal digits")
    assert decode(file_of(corners(), pnginfo=text), LIMIT).shape == (40, 60, 3)


SOUND = [file_of(corners(), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SOUND), st.integers(0, 10**6), st.binary(min_size=1, max_size=8), st.booleans())
def test_damaged_files_give_pixels_or_an_image_error(
    file: bytes, place: int, noise: bytes, cut: bool
) -> None:
    place %= len(file)
    damaged = file[:place] if cut else file[:place] + noise + file[place + len(noise) :]
    with suppress(ImageError):
        assert decode(damaged, LIMIT).shape[2] == 3
