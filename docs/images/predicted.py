"""Makes docs/images/predicted.jpg: pictures, and below them the previews that `predict` wrote of them.

PYTHONPATH=. .venv/bin/python docs/images/predicted.py
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from backend.cli import example_folder
from backend.demo.pictures import LABELS, draw

SIDE, GAP = 240, 8


def row(files: list[Path]) -> Image.Image:
    """Pictures side by side with white between them."""
    pictures = [Image.open(file).convert("RGB") for file in files]
    height = SIDE * pictures[0].height // pictures[0].width
    joined = Image.new("RGB", (len(files) * (SIDE + GAP) - GAP, height), "white")
    for number, picture in enumerate(pictures):
        joined.paste(picture.resize((SIDE, height)), (number * (SIDE + GAP), 0))
    return joined


with TemporaryDirectory() as name:
    folder = Path(name)
    for part in ("examples/images", "pictures"):
        (folder / part).mkdir(parents=True)
    for number in (1, 2, 3):
        example = draw(number)
        (folder / "examples" / "images" / f"{number}.png").write_bytes(example.png())
        masks = {label: np.asarray(example.masks[label]) for label in LABELS}
        example_folder.write_masks(folder / "examples", str(number), masks, LABELS)
    for number in (4, 5, 6):
        (folder / "pictures" / f"{number}.png").write_bytes(draw(number).png())
    command = [sys.executable, "-m", "backend", "predict", str(folder / "pictures")]
    command += ["--examples", str(folder / "examples"), "--out", str(folder / "found")]
    subprocess.run(command, check=True)  # noqa: S603 - our own command line
    above = row([folder / "pictures" / f"{number}.png" for number in (4, 5, 6)])
    below = row([folder / "found" / f"{number}.preview.jpg" for number in (4, 5, 6)])
picture = Image.new("RGB", (above.width, above.height + GAP + below.height), "white")
picture.paste(above, (0, 0))
picture.paste(below, (0, above.height + GAP))
picture.save(Path(__file__).with_name("predicted.jpg"), quality=88)
