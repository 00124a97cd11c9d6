"""Wiring: settings to a running backend; the only place that constructs. Used by app, jobs and cli."""

import logging
from dataclasses import dataclass

from rich.logging import RichHandler

from backend.images import ImageLoader
from backend.interactive import Interactive
from backend.label_studio import LabelStudio
from backend.learner import Learner
from backend.metrics import Metrics
from backend.ordering import Ordering
from backend.pre_annotation import PreAnnotation
from backend.predictor import Predictor
from backend.prompts import Alarm, Influence, Prompts, Tunings
from backend.settings import Settings
from backend.shadowing import Shadowing
from backend.store import Store
from backend.store.engines import open_engine
from backend.store.sqlite import SqliteStore
from backend.why import Why
from model.segmenter import Segmenter


@dataclass(frozen=True)
class Backend:
    """Everything that a process works with, made once."""

    settings: Settings
    store: Store
    spool: Store | None
    label_studio: LabelStudio
    images: ImageLoader
    segmenter: Segmenter
    predictor: Predictor
    interactive: Interactive
    learner: Learner
    prompts: Prompts
    tunings: Tunings
    alarm: Alarm
    influence: Influence
    pre_annotation: PreAnnotation
    why: Why
    shadowing: Shadowing
    metrics: Metrics

    @property
    def checkpoint(self) -> str:
        """Name of the weights, part of every revision."""
        return self.segmenter.identity

    def close(self) -> None:
        """Let go of files and connections."""
        self.label_studio.close()
        self.store.close()
        if self.spool is not None:
            self.spool.close()


def open_store(settings: Settings, *, patient: bool = False) -> Store:
    """The store that the settings name; `patient`: though Redis is away now.

    Raises:
        StoreError: if it cannot be used.
    """
    return open_engine(settings, patient=patient)


def open_spool(settings: Settings) -> Store | None:
    """Where events wait on this machine's disk while the store is away; None where the store is on the disk itself."""
    if not settings.redis_url.get_secret_value():
        return None
    return SqliteStore(settings.data_dir / "spool.sqlite3")


def connect(settings: Settings, *, tells: bool = False) -> LabelStudio:
    """Label Studio's client as the settings say; nothing is asked yet. `tells`: outages are logged."""
    return LabelStudio(settings.label_studio_url, settings.label_studio_api_key, tells=tells)


def load_images(settings: Settings, label_studio: LabelStudio) -> ImageLoader:
    """The image loader with the settings' limits."""
    return ImageLoader(
        label_studio,
        local_files_root=settings.local_files_root,
        allowed_hosts=settings.allowed_hosts,
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        timeout=settings.image_timeout,
        cache_bytes=settings.image_cache_bytes,
    )


def build(settings: Settings, *, patient: bool = False) -> Backend:
    """Construct a backend: opens the store and loads the checkpoint.

    Args:
        settings: of this backend.
        patient: as suits what runs for long: a Redis that is away now may come later, and outages of Label Studio are
            told in the log, not by whoever asked.

    Raises:
        StoreError: if the store cannot be used.
        CheckpointError: if the checkpoint cannot be loaded.
    """
    store = open_store(settings, patient=patient)
    label_studio = connect(settings, tells=patient)
    images = load_images(settings, label_studio)
    segmenter = load_segmenter(settings)
    predictor = Predictor(store, images, segmenter, settings)
    ordering = Ordering(store, label_studio, settings, segmenter.identity)
    return Backend(
        settings=settings,
        store=store,
        spool=open_spool(settings),
        label_studio=label_studio,
        images=images,
        segmenter=segmenter,
        predictor=predictor,
        interactive=Interactive(predictor.contexts, images, segmenter, settings),
        learner=Learner(store, label_studio, images, segmenter.describe, settings),
        prompts=Prompts(store, segmenter.identity, segmenter.image_size),
        tunings=Tunings(store, segmenter, settings),
        alarm=Alarm(store, segmenter, settings),
        influence=Influence(store, segmenter, settings),
        pre_annotation=PreAnnotation(store, label_studio, predictor, ordering, settings, segmenter.identity),
        why=Why(store, label_studio, predictor, segmenter.identity),
        shadowing=Shadowing(store, label_studio, predictor, segmenter.identity),
        metrics=Metrics(),
    )


def load_segmenter(settings: Settings) -> Segmenter:
    """The network of the settings, on their device.

    Raises:
        CheckpointError: if the checkpoint cannot be loaded.
        ValueError: if the device is not there.
    """
    return Segmenter.load(
        settings.checkpoint, settings.device, ensemble=settings.ensemble, guided=settings.edges == "guided"
    )


def configure_logging(settings: Settings) -> None:
    """Log to stderr; libraries that log addresses with their queries are kept quiet."""
    logging.basicConfig(
        level=settings.log_level,
        format="%(name)s: %(message)s",
        handlers=[RichHandler(show_path=False, rich_tracebacks=False, markup=False)],
        force=True,
    )
    for noisy in ("httpx", "httpcore", "huey", "PIL", "label_studio_sdk"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
