"""Says where an image is to be had, has it once, and decodes it; knows no masks.

| task data | how it is had |
| --- | --- |
| `/data/upload/...`, any other path | from Label Studio, with the token |
| `/data/local-files/?d=...` | from the disk, if it lies below `LOCAL_FILES_ROOT`; else from Label Studio |
| `http(s)://...` | directly; with the token from Label Studio's own origin only |
| `s3://...`, `gs://...`, `azure-blob://...` | Label Studio signs an address for the task and redirects to it |
| `data:...` | it is the image |
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.errors import ImageError, LabelStudioError
from backend.images.cache import ImageCache
from backend.images.decoding import decode
from backend.images.download import Downloader
from backend.label_studio import LabelStudio

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_ON_THE_WEB = {"http", "https"}


class ImageLoader:
    """Opens the images that tasks name; safe to use from several threads.

    Args:
        label_studio: where uploads and signed addresses come from.
        local_files_root: the folder that Label Studio serves as LOCAL_FILES_DOCUMENT_ROOT, as seen from here; None
            where it is not: then Label Studio is asked.
        allowed_hosts: `host` or `host:port` besides Label Studio's origin that images may come from though private.
        max_bytes: largest file.
        max_pixels: largest width x height.
        timeout: seconds for fetching one image.
        cache_bytes: of decoded images kept.
    """

    def __init__(
        self,
        label_studio: LabelStudio,
        *,
        local_files_root: Path | None = None,
        allowed_hosts: Iterable[str] = (),
        max_bytes: int = 100 * 2**20,
        max_pixels: int = 100_000_000,
        timeout: float = 20.0,
        cache_bytes: int = 256 * 2**20,
    ) -> None:
        self._label_studio = label_studio
        self._root = local_files_root.resolve() if local_files_root else None
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._cache = ImageCache(cache_bytes)
        self._downloader = Downloader(
            label_studio,
            allowed_hosts,
            max_bytes=max_bytes,
            timeout=timeout,
            verify=label_studio.certificates,
        )
        # Pillow's own limit is its module's; ours is checked before decoding, and must not be cut short by it.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)

    def open(self, url: str, task: int | None = None) -> NDArray[np.uint8]:
        """The image of a task.

        Args:
            url: as task data gives it.
            task: the task's id, with which Label Studio signs addresses in buckets.

        Returns:
            `[H, W, 3]` uint8 RGB as the editor shows it (EXIF orientation applied), read-only, shared by all callers.

        Raises:
            ImageError: with reason and remedy; never with a token or the query of an address.
        """
        url = url.strip()
        try:
            named = hashlib.sha256(url.encode()).digest()
        except UnicodeEncodeError:
            raise ImageError("The image's address holds half a character.") from None
        key = (named, task if _is_in_bucket(url) else None)
        try:
            return self._cache.get(key, lambda: decode(self._content(url, task), self._max_pixels))
        except LabelStudioError as error:
            raise ImageError(str(error)) from error

    def _content(self, url: str, task: int | None) -> bytes:
        scheme = _scheme(url)
        if scheme == "data":
            return self._inline(url)
        if _is_in_bucket(url):
            return self._downloader.fetch(self._label_studio.reach(_signing_path(url, task)))
        if scheme == "" and not url.startswith(("/", "data/")):
            raise ImageError(
                "The task names no address of an image.", remedy="It must be an address or begin with /."
            )
        if scheme == "file" or url.startswith("//"):
            raise ImageError(
                "Addresses of this kind are not opened.", remedy="Serve the file through Label Studio."
            )
        local = self._local(url)
        return (
            self._downloader.fetch(self._label_studio.reach(url)) if local is None else self._from_disk(local)
        )

    def _inline(self, url: str) -> bytes:
        head, comma, body = url.partition(",")
        if not comma:
            raise ImageError("The data address is damaged.")
        if len(body) > 2 * self._max_bytes:
            raise self._downloader.too_large()
        content = unquote_to_bytes(body)
        if head.lower().endswith(";base64"):
            try:
                content = base64.b64decode(b"".join(content.split()) + b"=" * (-len(content) % 4))
            except binascii.Error:
                raise ImageError("The data address is damaged.") from None
        if len(content) > self._max_bytes:
            raise self._downloader.too_large()
        return content

    def _local(self, url: str) -> Path | None:
        """The file on our disk that Label Studio would serve for `url`; None where it must be asked.

        Raises:
            ImageError: if the path, or a link on it, leads out of the folder.
        """
        if self._root is None:
            return None
        base = self._label_studio.url
        path, _, query = (self._label_studio.reach(url) if base else url).removeprefix(base).partition("?")
        named = parse_qs(query.partition("#")[0]).get("d", [""])[0].lstrip("/")
        if path.rstrip("/") != "/data/local-files" or not named:
            return None
        try:
            file = (self._root / named).resolve()
            inside = file.is_relative_to(self._root)
            there = inside and file.is_file()
        except (OSError, ValueError, RuntimeError):
            raise ImageError("The local file's path cannot be read.") from None
        if not inside:
            raise ImageError(
                "The local file lies outside LOCAL_FILES_ROOT.",
                remedy="Links are followed before this is checked.",
            )
        return file if there else None

    def _from_disk(self, file: Path) -> bytes:
        try:
            with file.open("rb") as opened:
                content = opened.read(self._max_bytes + 1)
        except OSError as error:
            raise ImageError(f"The local file cannot be read ({error.strerror}).") from None
        if len(content) > self._max_bytes:
            raise self._downloader.too_large()
        return content


def _scheme(url: str) -> str:
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def _is_in_bucket(url: str) -> bool:
    return _scheme(url) not in {"", "data", "file", *_ON_THE_WEB}


def _signing_path(url: str, task: int | None) -> str:
    if task is None:
        raise ImageError(
            "Label Studio signs an address in a bucket for a task only, and no task is known.",
            remedy="Ask for the image of a task that Label Studio knows.",
        )
    return f"/tasks/{task}/presign/?fileuri={base64.urlsafe_b64encode(url.encode()).decode()}"
