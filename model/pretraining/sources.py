"""Which packages the training images come from, and how to fetch and unpack them; knows no training."""

import io
import shutil
import subprocess
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

Use = Literal["photo", "cutout", "texture"]
Picture = tuple[str, Image.Image]


@dataclass(frozen=True)
class Source:
    """A package whose images are used.

    Attributes:
        package: Debian package name, name on npm, or "scikit-image".
        use: what its images serve as.
        licence: as the package's copyright file states it.
        copyleft: whether the licence asks derived works to carry it on.
        suffixes: file name endings that are read; "pk3" archives are looked into.
        limit: at most so many images, evenly spread over the sorted names.
        wanted: only files whose path holds one of these words, when given.
        registry: where the package is to be had.
    """

    package: str
    use: Use
    licence: str
    copyleft: bool
    suffixes: tuple[str, ...]
    limit: int
    wanted: tuple[str, ...] = ()
    registry: Literal["debian", "npm", "installed"] = "debian"

    @property
    def folder(self) -> str:
        """Its name as one part of a path."""
        return self.package.replace("/", "-").lstrip("@")


SOURCES = (
    Source(
        "scikit-image",
        "photo",
        "samples: public domain, CC0 and BSD, see its data/README.txt",
        False,
        ("png", "jpg"),
        40,
        registry="installed",
    ),
    Source("gnome-backgrounds", "photo", "CC-BY-SA-3.0, CC-BY-SA-2.0, CC-BY-2.0", True, ("webp", "jpg"), 60),
    Source("mate-backgrounds", "photo", "GPL-2+, CC-BY-SA-4.0", True, ("jpg",), 60),
    Source(
        "plasma-workspace-wallpapers",
        "photo",
        "GPL-2+",
        True,
        ("jpg", "png"),
        80,
        ("images/",),
    ),
    Source("ukui-wallpapers", "photo", "CC-BY-SA-3.0", True, ("jpg", "png"), 40),
    Source(
        "lomiri-wallpapers-16.04",
        "photo",
        "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0",
        True,
        ("jpg",),
        40,
    ),
    Source(
        "lomiri-wallpapers-20.04",
        "photo",
        "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0",
        True,
        ("jpg",),
        40,
    ),
    Source(
        "stellarium-data",
        "photo",
        "GPL-2+, CC-BY-3.0, CC-BY-SA-3.0, Free Art",
        True,
        ("jpg", "png"),
        60,
        ("landscapes",),
    ),
    Source(
        "opencv-doc",
        "photo",
        "Apache-2.0, BSD-3-Clause",
        False,
        ("jpg", "png"),
        100,
        ("examples/data/",),
    ),
    Source(
        "libjxl-testdata",
        "photo",
        "BSD-3-Clause, CC0-1.0",
        False,
        ("png",),
        20,
        ("flower/flower.png", "hdr_room", "srgb8"),
    ),
    Source("tuxpaint-stamps-default", "cutout", "GPL-2", True, ("png",), 900),
    Source("openclipart-png", "cutout", "public domain", False, ("png",), 2600),
    Source("fonts-noto-color-emoji", "cutout", "OFL-1.1, Apache-2.0", False, ("ttf",), 1600),
    Source("oxygen-icon-theme", "cutout", "LGPL-3+", True, ("png",), 500, ("128x128", "256x256")),
    Source("@lobehub/fluent-emoji-3d", "cutout", "MIT", False, ("webp",), 2400, registry="npm"),
    Source(
        "wesnoth-1.16-data",
        "cutout",
        "GPL-2+, CC-BY-SA-4.0",
        True,
        ("png", "webp"),
        1600,
        ("core/images/portraits", "core/images/units", "core/images/scenery", "core/images/items"),
    ),
    Source("nexuiz-textures", "texture", "GPL-2+", True, ("pk3",), 500),
    Source("openarena-081-textures", "texture", "GPL-2+", True, ("pk3", "jpg", "tga", "png"), 700),
    Source(
        "ufoai-textures",
        "texture",
        "GPL-2+, CC-BY-SA-3.0, CC-BY-3.0, public domain",
        True,
        ("pk3", "jpg", "png"),
        600,
    ),
    Source(
        "supertuxkart-data",
        "texture",
        "CC-BY-SA-3.0, CC-BY-SA-4.0, CC-BY-3.0, CC0, GPL",
        True,
        ("jpg", "png"),
        700,
        ("texture", "tracks"),
    ),
    Source("redeclipse-data", "texture", "CC-BY-SA-3.0, CC-BY-3.0, CC0, Zlib", True, ("jpg", "png"), 700),
)
LARGEST = 30_000_000  # pixels; larger drawings only cost time
_SKIPPED = (
    "_nor",
    "_bump",
    "_spec",
    "norm",
    "_gloss",
    "height",
    "_lod",
    "mask",
    "_local",
    "_s.",
    "_n.",
    "_z.",
    "glow",
    "sky",
)


def fetch(cache: Path, sources: tuple[Source, ...] = SOURCES) -> None:
    """Download and unpack what is missing; needs `apt-get`, `dpkg-deb` and `npm`, but no rights.

    Args:
        cache: folder for packages and unpacked files.
        sources: which packages.

    Raises:
        RuntimeError: if the commands are absent.
        subprocess.CalledProcessError: if a package cannot be had.
    """
    packages = cache / "debs"
    packages.mkdir(parents=True, exist_ok=True)
    for source in sources:
        target = cache / "unpacked" / source.folder
        if source.registry == "installed" or target.exists():
            continue
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if source.registry == "npm":
            _call("npm", ["pack", "--silent", source.package], packages)
            with tarfile.open(next(packages.glob(f"{source.folder}-*.tgz"))) as archive:
                archive.extractall(partial, filter="data")
        else:
            _call("apt-get", ["download", source.package], packages)
            archive_file = next(packages.glob(f"{source.package}_*.deb"))
            _call("dpkg-deb", ["-x", str(archive_file.resolve()), str(partial.resolve())], packages)
        partial.rename(target)


def _call(command: str, arguments: list[str], folder: Path) -> None:
    found = shutil.which(command)
    if found is None:
        raise RuntimeError(f"the training images are packages of Debian and npm: run this where {command} is")
    subprocess.run([found, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S603 - our own table


def pictures(cache: Path, source: Source) -> Iterator[Picture]:
    """The images of a source with stable names, smallest and odd ones left out.

    Args:
        cache: where `fetch` unpacked.
        source: which package.

    Yields:
        `package/file` and the image, in the mode of the file.
    """
    if source.package == "fonts-noto-color-emoji":
        yield from _glyphs(next((cache / "unpacked" / source.folder).rglob("*.ttf")), source)
        return
    root = (
        Path(skimage.__file__).parent / "data"
        if source.registry == "installed"
        else cache / "unpacked" / source.folder
    )
    entries = [entry for entry in _entries(root, source.suffixes) if _fits(entry[0], source)]
    for position in np.unique(np.linspace(0, len(entries) - 1, source.limit).astype(int)):
        name, path, member = entries[position]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # huge drawings and odd palettes: the first are left out, the second are fine
                image = Image.open(io.BytesIO(_read(path, member)))
            if image.width * image.height > LARGEST:
                continue
            image.draft("RGB", (1600, 1600))
            image.load()
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError):
            continue
        if min(image.size) >= 64:
            yield f"{source.folder}/{name}", image


def _entries(root: Path, suffixes: tuple[str, ...]) -> list[tuple[str, Path, str | None]]:
    found: list[tuple[str, Path, str | None]] = []
    for path in sorted(root.rglob("*")):
        suffix = path.suffix[1:].lower()
        if path.is_symlink() or not path.is_file() or suffix not in suffixes:
            continue
        name = str(path.relative_to(root))
        if suffix == "pk3":
            with zipfile.ZipFile(path) as archive:
                found += [(f"{name}/{member}", path, member) for member in sorted(archive.namelist())]
        else:
            found.append((name, path, None))
    return found


def _fits(name: str, source: Source) -> bool:
    lowered = name.lower()
    if not lowered.endswith(("png", "jpg", "jpeg", "tga", "webp")):
        return False
    if source.use == "cutout" and "flag" in lowered:  # hundreds of them, all alike
        return False
    if source.use == "texture" and any(word in lowered for word in _SKIPPED):
        return False
    return not source.wanted or any(word in lowered for word in source.wanted)


def _read(path: Path, member: str | None) -> bytes:
    if member is None:
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _glyphs(font_file: Path, source: Source) -> Iterator[Picture]:
    """Emoji as RGBA cut-outs; the font holds bitmaps of one size only."""
    font = ImageFont.truetype(str(font_file), 109)
    count = 0
    for code in [*range(0x2600, 0x27C0), *range(0x1F300, 0x1FB00)]:
        canvas = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((0, 0), chr(code), font=font, embedded_color=True)
        alpha: NDArray[np.uint8] = np.asarray(canvas)[..., 3]
        if (alpha > 127).mean() < 0.05 or np.asarray(canvas)[..., :3].max() == 0:
            continue
        yield f"{source.folder}/{code:x}", canvas
        count += 1
        if count == source.limit:
            return
