"""Makes the pictures of docs/admin_page.md: the page in a browser, on drawn blood smears and the embedded checkpoint.

PYTHONPATH=. .venv/bin/python docs/images/admin_page.py
"""

import io
import logging
import tempfile
import threading
import time
from pathlib import Path
from typing import NoReturn

import uvicorn
from PIL import Image

from backend import lost_labels
from backend.demo.pictures import LABELS, draw
from backend.demo.process import free_port
from tests.backend.browser import Watched, opened_browser
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.stage import brush, staged

PICTURES, DRAWN, WRONG, TUNED = 12, 5, 3, 6
SECOND = 2  # the user who mixed the labels up
CHOICES = "".join(f'<Label value="{label}"/>' for label in LABELS)
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">'
    f"{CHOICES}</BrushLabels></View>"
)
# What is seen of the pictures is there, and ready to be painted.
PICTURES_THERE = (
    "Promise.all([...document.images]"
    ".filter(i => i.checkVisibility() && i.getBoundingClientRect().top < innerHeight)"
    ".map(i => i.decode())).then(() => true)"
)
SHOTS = {
    "admin-overview.png": ("", "light", 1150),
    "admin-examples.png": ("/examples?target=tag%2Fimage%2Fwhite%2520cell", "light", 900),
    "admin-influence.png": ("/influence", "light", 900),
    "admin-prompts.png": ("/prompts", "dark", 760),
    "admin-why.png": (f"/tasks/{PICTURES}", "light", 960),
    "admin-lost-labels.png": ("/lost-labels", "light", 520),  # the last one: it changes the labeling config
}
log = logging.getLogger(__name__)
logging.basicConfig(level="WARNING", format="%(message)s")
log.setLevel("INFO")


def missing(reason: str) -> NoReturn:
    """There is no browser."""
    raise SystemExit(reason)


with (
    tempfile.TemporaryDirectory() as folder,
    FakeLabelStudio() as label_studio,
):
    label_studio.add_project(CONFIG, title="Blood smears")
    # No nearer looks: the cells are large, and each example is measured several times.
    fields = {"tune_steps": 2, "tune_every": 0, "tune_gate": -1.0, "zoom": "off", "shots": 4}
    with staged(label_studio, Path(folder), Path("embedded"), **fields) as stage:
        for number in range(1, PICTURES + 1):
            picture = draw(number)
            task = stage.label_studio.add_task(stage.project, picture.png())
            masks = {label: mask for label, mask in picture.masks.items() if mask.any()}
            if number == WRONG:
                masks = dict(zip(masks, reversed(masks.values()), strict=True))  # labels mixed up
            told: dict[str, float] = {
                "lead_time": 95.0 - 3 * number,
                "completed_by": SECOND if number in (WRONG, 4) else 1,
            }
            if number > DRAWN:
                stage.predict(task)
                told["lead_time"] = 24.0 + number % 5
            origin = "manual" if number <= DRAWN else "prediction-changed"
            stage.submit(task, *(brush(mask, label, origin=origin) for label, mask in masks.items()), **told)
            stage.work()
            if number == TUNED:
                (tuning,) = stage.backend.tunings.ask(stage.key, "admin API", ["tag/image/red%20cell"])
                stage.jobs.tuning.flush()
                stage.jobs.tune(tuning.id)
                stage.tune()
            log.info("%d of %d approved", number, PICTURES)
        log.info("measuring")
        stage.backend.alarm.measure(stage.key)
        log.info("weighing a person's examples")
        stage.backend.influence.ask(stage.key, "person", str(SECOND))
        stage.backend.influence.weigh(stage.key, lambda _done, _total: None)
        log.info("measuring what each did")
        stage.backend.why.ask(stage.key, PICTURES)
        stage.backend.why.measure(stage.key, lambda: None)
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(stage.app, port=port, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        with opened_browser(missing) as browser:
            for name, (path, scheme, height) in SHOTS.items():
                if path == "/lost-labels":
                    renamed = CONFIG.replace(f'value="{LABELS[-1]}"', 'value="leukocyte"')
                    lost_labels.put_label_config(stage.backend.store, stage.key, renamed, time.time())
                watched = Watched(browser, color_scheme=scheme)
                watched.page.set_viewport_size({"width": 1000, "height": height})
                watched.page.goto(
                    f"http://127.0.0.1:{port}/projects/{stage.key}{path}", wait_until="networkidle"
                )
                if path == "/lost-labels":
                    watched.page.get_by_role("combobox").first.select_option("leukocyte")
                watched.page.evaluate(PICTURES_THERE)
                shot = Image.open(io.BytesIO(watched.page.screenshot())).convert("RGB")
                target = Path(__file__).with_name(name)
                shot.quantize(96).save(target, optimize=True)
                log.info("%s: %d KB, %s", name, target.stat().st_size // 1024, watched.complaints)
                watched.close()
        server.should_exit = True
        thread.join()
