"""A real backend beside the fake Label Studio: what people do there, and the worker played one job at a time.

Settings, store, queue, app and network are the real ones; only the network's weights are random and small. Where a
test needs masks that mean something, `by_colour` stands in for the network's forward pass.
"""

import base64
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from starlette.testclient import TestClient

from backend import brush_rle
from backend.app import create_app
from backend.jobs import Jobs
from backend.learner import Learnt
from backend.settings import Settings
from backend.store.pictures import unpack_mask
from backend.wiring import Backend, build
from model.edges import ProbabilityMap
from model.seggpt import SegGPT, SegGPTConfig
from model.segmenter import Query
from tests.backend.fake_label_studio import FakeLabelStudio

INVITE_TOKEN, STORAGE_PASSWORD = "invite-0a1b2c3d4e5f", "storage-password-77"
LOOPBACK, ADDRESS = ("127.0.0.1", 50_000), "http://127.0.0.1:9090"
PATIENCE = 300.0  # seconds for an answer of this machine, which may stand still for half a minute
_FAR = timedelta(days=365)

Run = Callable[..., tuple[int, str, str]]
"""A command and its arguments to exit code, output and errors; see the fixture `run`."""


def write_random_checkpoint(path: Path, image_size: int = 64) -> Path:
    """A network that is small enough for tests; what it paints means nothing."""
    torch.manual_seed(0)
    config = SegGPTConfig(
        image_size=image_size,
        patch_size=8,
        embed_dim=48,
        depth=4,
        num_heads=4,
        decoder_embed_dim=8,
        pretrain_image_size=image_size,
        merge_index=0,
        intermediate_indices=(1, 2, 3),
    )
    save_file(SegGPT(config).state_dict(), path, metadata={"config": json.dumps(asdict(config))})
    return path


# -- pictures and regions ------------------------------------------------------------------------------------------
def blob(seed: int, height: int = 48, width: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A dark picture with one bright disc, and the disc."""
    random = np.random.default_rng(seed)
    image = random.integers(20, 60, (height, width, 3)).astype(np.uint8)
    y, x = random.integers(14, height - 14), random.integers(14, width - 14)
    rows, columns = np.mgrid[:height, :width]
    mask = (rows - y) ** 2 + (columns - x) ** 2 < 100
    image[mask] = [230, 200, 60]
    return image, mask


def png(image: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(image), "PNG")


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def brush(
    mask: NDArray[np.bool_], label: str = "cell", control: str = "tag", image: str = "image", **fields: Any
) -> dict[str, Any]:
    """A brush region as the editor submits it."""
    height, width = mask.shape
    value = {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": [label]}
    return {
        "id": f"{label}-{int(mask.sum())}", "from_name": control, "to_name": image, "type": "brushlabels",
        "origin": "manual", "original_width": width, "original_height": height, "image_rotation": 0,
        "value": value, **fields,
    }  # fmt: skip


def mask_of(region: dict[str, Any]) -> NDArray[np.bool_]:
    """The pixels of a brush region of an answer."""
    height, width = region["original_height"], region["original_width"]
    return np.asarray(brush_rle.decode(region["value"]["rle"], height, width) > 127)


def by_colour(queries: Sequence[Query]) -> list[NDArray[np.float32]]:
    """In place of `Segmenter.segment`: what has the mean colour of the examples' masked pixels is the mask."""
    found = []
    for query in queries:
        masked = np.concatenate([example.image[example.mask] for example in query.context.examples])
        away = np.abs(query.image.astype(np.float32) - masked.mean(axis=0)).max(axis=-1)
        found.append(np.where(away < 60, 0.9, 0.05).astype(np.float32))
    return found


# -- the stage -----------------------------------------------------------------------------------------------------
class Stage:
    """One project in the fake Label Studio, connected to one backend."""

    def __init__(
        self,
        label_studio: FakeLabelStudio,
        folder: Path,
        checkpoint: Path,
        connected: bool = True,
        **fields: Any,
    ) -> None:
        self.label_studio = label_studio
        self.project = max(label_studio.projects, default=0) or label_studio.add_project()
        given: dict[str, Any] = {
            "data_dir": folder, "checkpoint": str(checkpoint), "device": "cpu", "min_area": 0.0, "tune_steps": 4,
            "predict_deadline": 600, "image_timeout": PATIENCE,
        }  # fmt: skip
        if connected:
            given |= {
                "label_studio_url": label_studio.url,
                "label_studio_api_key": label_studio.legacy_token,
            }
        self.settings = Settings(**(given | fields))
        self.backend: Backend = build(self.settings, patient=True)
        self.jobs = Jobs(self.settings, self.backend)
        self.failed: list[BaseException] = []
        for lane in (self.jobs.events, self.jobs.predictions, self.jobs.tuning):
            lane.signal("error")(self._note_failure)
        self.app = create_app(self.backend, self.jobs)
        self.client = TestClient(self.app, ADDRESS, client=LOOPBACK)

    def _note_failure(self, _signal: str, _task: Any, error: BaseException) -> None:
        self.failed.append(error)

    def close(self) -> None:
        self.client.close()
        self.backend.close()

    @property
    def key(self) -> str:
        created = datetime.fromisoformat(self.label_studio.projects[self.project]["created_at"])
        return f"{self.project}.{int(created.timestamp())}"

    @property
    def target(self) -> str:
        return "tag/image/cell"

    @property
    def pool(self) -> list[int]:
        """Annotations that teach, oldest first."""
        return [info.annotation for info in self.backend.store.pool(self.key)]

    def segment_by_colour(self) -> None:
        self.segment_with(by_colour)

    def segment_with(self, segment: Any) -> None:
        """Let something stand in for the network's forward pass."""
        self.backend.segmenter.segment = segment  # type: ignore[method-assign]  # the one stand-in, see above
        self.backend.segmenter.maps = lambda queries: [  # type: ignore[method-assign]
            ProbabilityMap(values, *values.shape) for values in segment(queries)
        ]

    # -- what Label Studio sends ---------------------------------------------------------------------------------
    def setup(self) -> str:
        """What a look at the backend shows as its version."""
        project = self.label_studio.projects[self.project]
        body = {
            "project": self.key, "schema": project["label_config"], "hostname": self.label_studio.url,
            "access_token": self.label_studio.legacy_token, "extra_params": None,
        }  # fmt: skip
        response = self.client.post("/setup", json=body)
        assert response.status_code == 200, response.text
        return str(response.json()["model_version"])

    def predict(self, *tasks: int, **fields: Any) -> list[Any]:
        """The results for tasks."""
        response = self.ask(*tasks, **fields)
        assert response.status_code == 200, response.text
        results = response.json()["results"]
        assert len(results) == len(tasks)
        return list(results)

    def ask(self, *tasks: int, **fields: Any) -> Any:
        body = {
            "tasks": [{**self.label_studio.tasks[task], "annotations": [], "predictions": []} for task in tasks],
            "project": self.key, "label_config": self.label_studio.projects[self.project]["label_config"],
            "params": {"login": None, "password": None, "context": None}, **fields,
        }  # fmt: skip
        return self.client.post("/predict", json=body)

    def event(self, action: str, **body: Any) -> Any:
        secrets = {
            "token": INVITE_TOKEN,
            "task_data_login": "storage",
            "task_data_password": STORAGE_PASSWORD,
        }
        project = {**self.label_studio.projects[self.project], **secrets}
        response = self.client.post("/webhook", json={"action": action, "project": project, **body})
        assert response.status_code == 201, response.text
        return response

    def annotated(self, action: str, annotation: int) -> Any:
        row = self.label_studio.annotations[annotation]
        return self.event(action, annotation=row, task=self.label_studio.tasks[row["task"]])

    # -- what people do ------------------------------------------------------------------------------------------
    def upload(self, image: NDArray[np.uint8], **data: Any) -> int:
        return self.label_studio.add_task(self.project, png(image), **data)

    def blobs(self, count: int, first: int = 0) -> list[int]:
        """Tasks with one picture each."""
        return [self.upload(blob(first + number)[0]) for number in range(count)]

    def submit(self, task: int, *regions: dict[str, Any], tell: bool = True, **fields: Any) -> int:
        """Submit an annotation; returns its id."""
        fields = {"updated_at": now(), **fields}
        annotation = self.label_studio.annotate(task, list(regions), **fields)
        if tell:
            self.annotated("ANNOTATION_CREATED", annotation)
        return annotation

    def approve(self, seed: int, **fields: Any) -> int:
        """Upload `blob(seed)`, submit its disc, and let the worker learn it; returns the annotation's id."""
        image, mask = blob(seed)
        annotation = self.submit(self.upload(image), brush(mask), **fields)
        self.work()
        return annotation

    def correct(self, annotation: int, *regions: dict[str, Any], tell: bool = True, **fields: Any) -> None:
        self.label_studio.edit(annotation, result=list(regions), **fields)
        self.label_studio.annotations[annotation]["updated_at"] = now()
        if tell:
            self.annotated("ANNOTATION_UPDATED", annotation)

    def delete(self, annotation: int) -> None:
        self.label_studio.withdraw(annotation)
        self.event("ANNOTATIONS_DELETED", annotations=[{"id": annotation}])

    def predicted_by(self, task: int, model_version: str) -> int:
        """A prediction that lies in Label Studio already; returns its id."""
        number = max(self.label_studio.stored_predictions, default=0) + 1
        self.label_studio.stored_predictions[number] = {
            "id": number, "task": task, "project": self.project, "model_version": model_version, "result": [],
            "score": 0.5, "created_at": now(), "updated_at": now(),
        }  # fmt: skip
        return number

    # -- the worker ----------------------------------------------------------------------------------------------
    def work(self, *, later: bool = False, most: int = 300, lane: Any = None) -> list[str]:
        """Do what is queued, as the worker would, until nothing is; returns the jobs' names in their order.

        Args:
            later: also do, once, what is queued for later.
            most: more jobs than this are a chain without an end.
            lane: which lane; None for those of events and predictions.
        """
        lanes = [lane] if lane else [self.jobs.events, self.jobs.predictions]
        moment = datetime.now()  # noqa: DTZ005 - as Huey has it
        waiting = [
            (each, task) for each in lanes for task in (each.read_schedule(moment + _FAR) if later else [])
        ]
        for _, task in waiting:
            task.eta = None
        done: list[str] = []
        while found := waiting.pop(0) if waiting else _next(lanes):
            each, task = found
            if task.eta is not None:
                each.add_schedule(task)
                continue
            each.execute(task)
            done.append(task.name)
            assert len(done) <= most, f"no end of {done[-5:]}"
        assert not self.failed, self.failed
        return done

    def tune(self) -> list[str]:
        """Do what is queued in the lane of tunings."""
        return self.work(lane=self.jobs.tuning)

    def tune_four(self) -> None:
        """Approve four masks and tune with them; measurings that wait are passed over."""
        for seed in range(4):
            self.approve(seed)
        self.jobs.tuning.flush()
        self.backend.tunings.ask(self.key, "a test")
        self.jobs.tune(self.tunings[0].id)
        self.tune()
        self.work()

    @property
    def prompts(self) -> list[Any]:
        """The project's versions, by number."""
        return self.backend.store.prompts.prompts(self.key)

    @property
    def tunings(self) -> list[Any]:
        """The project's tunings, newest first."""
        return self.backend.store.prompts.tunings(self.key)


def _next(lanes: Sequence[Any]) -> tuple[Any, Any] | None:
    """A lane and its next job: the first lane goes first."""
    return next(((lane, task) for lane in lanes if (task := lane.dequeue())), None)


@contextmanager
def staged(
    label_studio: FakeLabelStudio, folder: Path, checkpoint: Path, connected: bool = True, **fields: Any
) -> Iterator[Stage]:
    """A stage that is cleared away afterwards."""
    stage = Stage(label_studio, folder, checkpoint, connected, **fields)
    try:
        yield stage
    finally:
        stage.close()


_ticks = iter(range(10**9))


def now() -> str:
    """This moment as Label Studio writes it; a later call gives a later moment."""
    moment = datetime.now(UTC) + timedelta(microseconds=next(_ticks))
    return moment.isoformat().replace("+00:00", "Z")


# -- what has been learned ----------------------------------------------------------------------------------------
def half(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The upper half of a mask's pixels."""
    upper: NDArray[np.bool_] = mask & (np.cumsum(mask).reshape(mask.shape) <= mask.sum() // 2)
    return upper


def example_of(stage: Stage, annotation: int) -> Any:
    keys = [info.key for info in stage.backend.store.pool(stage.key) if info.annotation == annotation]
    (stored,) = stage.backend.store.examples(keys).values()
    return stored


def mask_taught(stage: Stage, annotation: int) -> Any:
    return unpack_mask(example_of(stage, annotation).mask)


def reconcile(stage: Stage) -> Learnt:
    learnt = stage.backend.learner.reconcile(stage.key)
    stage.backend.store.set_note(f"reconcile-seconds:{stage.key}", "0")  # however slow this machine was
    return learnt


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def taught(stage: Stage) -> list[NDArray[np.bool_]]:
    """The masks in the pool, oldest first."""
    stored = stage.backend.store.examples([info.key for info in stage.backend.store.pool(stage.key)])
    return [unpack_mask(example.mask) for example in stored.values()]
