"""Bytes of an image file to RGB pixels as a browser shows them; knows neither addresses nor tokens."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from backend.errors import ImageError
from model.canvas import to_rgb

# What browsers show, and TIFF. Formats that need another program (EPS) or have no signature stay out.
_FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000", "AVIF")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WITH_ALPHA = {"L": "LA", "1": "LA"}
_AS_THEY_ARE = {"1", "L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}


def decode(content: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Decode the first page or frame of an image file.

    The orientation of its EXIF tag is applied, as the editor does. Grey images of 16 or 32 bits are stretched from
    their least to their greatest value. Transparent parts are laid over white.

    Args:
        content: the file.
        max_pixels: more than so many (width x height) are refused before any is decoded.

    Returns:
        `[H, W, 3]` uint8, read-only.

    Raises:
        ImageError: if it is no image, too large, or damaged.
    """
    if not content:
        raise ImageError("The image file is empty.")
    try:
        Image.init()  # else formats loaded on demand are unknown; does nothing the second time
        formats = [name for name in _FORMATS if name in Image.OPEN]
        with Image.open(io.BytesIO(content), formats=formats) as image:
            _check_size(image.size, max_pixels)
            image.load()
            _check_size(image.size, max_pixels)
            pixels = to_rgb(_values(_upright(image)))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            "The image is far too large.", remedy="Raise MAX_IMAGE_PIXELS, or make it smaller."
        ) from None
    except UnidentifiedImageError:
        raise _not_an_image(content) from None
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise ImageError(f"The image is damaged or of an unknown kind ({type(error).__name__}).") from error
    pixels.flags.writeable = False
    return pixels


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"The image has {width} x {height} pixels, more than {max_pixels} in all.",
            remedy="Raise MAX_IMAGE_PIXELS, or make it smaller.",
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - a damaged EXIF block raises nearly anything, and the pixels are good
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _values(image: Image.Image) -> NDArray[Any]:
    """The image's values in a form that `to_rgb` knows."""
    if "transparency" in image.info and image.mode in {"1", "L", "P", "RGB"}:
        image = image.convert(_WITH_ALPHA.get(image.mode, "RGBA"))
    elif image.mode == "PA":
        image = image.convert("RGBA")
    elif image.mode not in _AS_THEY_ARE:
        image = image.convert("RGB")
    values: NDArray[Any] = np.asarray(image)
    return _stretched(values) if image.mode == "F" else values


def _stretched(values: NDArray[Any]) -> NDArray[Any]:
    """Floats that are neither 0 to 1 nor 0 to 255, as measuring cameras write them, from least to greatest."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(values.shape, np.uint8)
    low, high = float(values[known].min()), float(values[known].max())
    if low >= 0 and high <= 255:
        return values
    clipped = np.clip(np.nan_to_num(values, nan=low, posinf=high, neginf=low).astype(np.float64), low, high)
    return np.rint((clipped - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def _not_an_image(content: bytes) -> ImageError:
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return ImageError("The image is an SVG drawing, which has no pixels.", remedy="Convert it to PNG.")
    if start.startswith((b"<!doctype html", b"<html")):
        return ImageError(
            "A web page came instead of the image, such as a login or an error page.",
            remedy="Open the task's address in a private browser window to see it.",
        )
    return ImageError(
        "The file is no image, or of a kind that is not read.", remedy=f"Read are {', '.join(_FORMATS)}."
    )
