"""Doctor: looks for what really goes wrong between Label Studio and a backend; changes nothing."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from backend import revision, titles, troubles
from backend.errors import BackendError, ImageError, LabelStudioError
from backend.label_config import image_url, parse
from backend.label_studio import LabelStudio
from backend.label_studio.records import UNCERTAINTY, ProjectInfo
from backend.settings import Settings
from backend.store import Store
from backend.store.redis_address import Address
from backend.wiring import connect, load_images, open_store
from model.segmenter import Segmenter

_SSRF = (
    "Start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (or"
    " USE_DEFAULT_BANNED_SUBNETS=false) if the backend has a private address, then remove the model and connect again."
)
_UNPIN = (
    "Choose the model in place of the predictions (Settings > Annotation > Prelabeling), or it is never asked; a worker"
    " that had set it takes it back within a minute."
)
_CHOOSE = "Choose this backend's model or predictions in Settings > Annotation > Prelabeling, or switch ORDER_BY_SCORE off."
_PRELABEL = "Switch on: Settings > Annotation > Use predictions to prelabel tasks."
_WAIT = (
    "It is set when every task ahead is predicted. If you have put it back by hand it stays: choose the newest predictions"
    " of this backend in Settings > Annotation > Prelabeling."
)
_SAMPLING = (
    "Hard tasks first in the label stream: set the project's sampling to 'Uncertainty sampling' by Label Studio's API, as"
    " docs/order_of_work.md shows; or label from a view that is sorted by Prediction score."
)
_LATE = 900.0  # seconds, as in the alert SegGPTEventsWait


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; a note needs nobody."""

    level: Literal["ok", "note", "warning", "error"]
    what: str
    found: str
    remedy: str = ""


def examine(
    settings: Settings, project: int | None = None, segmenter: Segmenter | None = None
) -> list[Finding]:
    """Look at checkpoint, store, server, Label Studio, and each project (or one).

    Args:
        settings: of the backend that is looked at.
        project: Label Studio's number of the only project to look at.
        segmenter: the running backend's, so that no second one is loaded.
    """
    findings = [*_checkpoint(settings, segmenter), *_server(settings)]
    label_studio = connect(settings)
    known: dict[int, dict[str, str]] = {} if project is None else {project: {}}
    try:
        store = open_store(settings)
        for record in store.projects():
            if project in {None, record.id}:
                known.setdefault(record.id, {})[record.key] = titles.of(store, record.key)
        findings += _store(settings, store)
        store.close()
    except BackendError as error:
        findings.append(Finding("error", "store", str(error)))
    reached = list(_label_studio(label_studio))
    findings += reached
    if all(finding.level == "ok" for finding in reached):
        if not known:
            findings.append(
                Finding("warning", "projects", "none has been seen", "Connect the backend in a project.")
            )
        for number, seen in known.items():
            findings += _projects(settings, label_studio, number, seen, is_asked_for=project is not None)
    label_studio.close()
    return findings


def _checkpoint(settings: Settings, segmenter: Segmenter | None) -> Iterator[Finding]:
    try:
        segmenter = segmenter or Segmenter.load(settings.checkpoint, settings.device)
    except (ValueError, OSError) as error:
        yield Finding("error", "checkpoint", str(error), "See CHECKPOINT and DEVICE in docs/settings.md.")
        return
    kind = str(segmenter.dtype).removeprefix("torch.") + (
        ", products in bfloat16" if segmenter.narrowed else ""
    )
    size = segmenter.image_size
    yield Finding("ok", "checkpoint", f"{segmenter.identity} at {size} px on {segmenter.device} in {kind}")
    if settings.checkpoint == "embedded":
        yield Finding(
            "warning",
            "checkpoint",
            "the embedded one is a demonstration",
            "Set CHECKPOINT=BAAI/seggpt-vit-large.",
        )


def _store(settings: Settings, store: Store) -> Iterator[Finding]:
    address = settings.redis_url.get_secret_value()
    place = Address.parse(address).shown if address else str(settings.data_dir)
    yield Finding("ok", "store", f"{place}, {len(store.projects())} projects")
    for warning in store.warnings():
        yield Finding("warning", "store", warning)
    for record in store.projects():
        for said in troubles.lasting(store, record.key):
            yield Finding("warning", "worker", said, "It goes on trying.")
    for project, waiting in store.waiting_events().items():
        if time.time() - waiting.since > _LATE:
            since = datetime.fromtimestamp(waiting.since, UTC)
            found = (
                f"project {project}: {waiting.count} events wait, the first since {since:%Y-%m-%d %H:%M} UTC"
            )
            yield Finding(
                "warning", "worker", found, "They are kept; does a worker run, and what does it log?"
            )


def _server(settings: Settings) -> Iterator[Finding]:
    address = settings.own_url
    try:
        answer = httpx.get(f"{address}/health", timeout=2, trust_env=False)
        good = answer.status_code == 200 and answer.json().get("model_class") == "SegGPT"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        yield Finding(
            "warning", "server", f"nothing answers at {address}", "Start it: python -m backend serve"
        )
        return
    if good:
        yield Finding("ok", "server", f"answers at {address}")
    else:
        yield Finding("error", "server", f"something else answers at {address}", "Choose another PORT.")


def _label_studio(label_studio: LabelStudio) -> Iterator[Finding]:
    if not label_studio.configured:
        yield Finding(
            "error", "Label Studio", "LABEL_STUDIO_URL is not set", "Set it and LABEL_STUDIO_API_KEY."
        )
        return
    try:
        yield Finding("ok", "Label Studio", f"{label_studio.version()} at {label_studio.origin}")
        user = label_studio.whoami()
        yield Finding("ok", "token", f"{label_studio.token_kind} token of {user.get('email', 'a user')}")
    except LabelStudioError as error:
        yield Finding("error", "Label Studio", str(error))


def _projects(
    settings: Settings, label_studio: LabelStudio, number: int, seen: Mapping[str, str], *, is_asked_for: bool
) -> Iterator[Finding]:
    """All projects that had a number: the one that has it, if any, and those that Label Studio has no longer.

    Args:
        settings: of the backend.
        label_studio: what has them.
        number: Label Studio's.
        seen: titles by key of those that the backend has seen.
        is_asked_for: whether the one that has it is looked at though the backend has not seen it.
    """
    try:
        info = label_studio.project(number)
    except LabelStudioError as error:
        if error.status != 404 or not seen:
            yield Finding("error", f"project {number}", str(error))
            return
        info = None
    for key, title in seen.items():
        if info is None or key != info.key:
            called = f"'{title}'" if title else "it"
            found = f"{called} is no longer in Label Studio; its examples stay in the store, unused"
            yield Finding("note", f"project {key}", found)
    if info is not None and (is_asked_for or info.key in seen):
        yield from _project(settings, label_studio, info)


def _project(settings: Settings, label_studio: LabelStudio, info: ProjectInfo) -> Iterator[Finding]:
    number, what = info.id, f"project {info.id}"
    try:
        config = parse(info.label_config)
        backends, webhooks = label_studio.backends(number), label_studio.webhooks(number)
        unlabeled = label_studio.unlabeled_tasks(number, limit=1)
        task = unlabeled[0] if unlabeled else label_studio.any_task(number)
    except BackendError as error:
        yield Finding("error", what, str(error))
        return
    if not config.targets:
        yield Finding(
            "warning", what, "its labeling config has nothing to segment", "Add BrushLabels or PolygonLabels."
        )
    else:
        yield Finding("ok", what, f"'{info.title}', {len(config.targets)} labels to segment")
    yield from _connection(settings, what, backends, webhooks)
    yield from _order(settings, what, info, {str(row.get("title")) for row in backends})
    yield from _first_image(settings, label_studio, what, task, [value for _, value in config.images()])


def _order(settings: Settings, what: str, info: ProjectInfo, titles: set[str]) -> Iterator[Finding]:
    """Whether Label Studio can sort by score, and whether that is wanted."""
    version = info.model_version
    if not settings.order_by_score:
        if revision.is_ours(version):
            yield Finding("warning", what, f"its model version is pinned to {version}", _UNPIN)
        return
    if not info.show_collab_predictions:
        yield Finding("warning", what, "ORDER_BY_SCORE is on, but the project uses no predictions", _PRELABEL)
    elif revision.is_ours(version):
        yield Finding("ok", what, f"can be sorted by the scores of {version}")
    elif version in {"", *titles}:
        yield Finding(
            "warning", what, f"cannot be sorted by score yet: its model version is '{version}'", _WAIT
        )
    else:
        yield Finding(
            "warning", what, f"its model version is {version}, which ORDER_BY_SCORE leaves alone", _CHOOSE
        )
    if info.sampling != UNCERTAINTY:
        found = f"ORDER_BY_SCORE is on, but the label stream goes by '{info.sampling}'"
        yield Finding("warning", what, found, _SAMPLING)


def _connection(
    settings: Settings, what: str, backends: list[dict[str, Any]], webhooks: list[dict[str, Any]]
) -> Iterator[Finding]:
    if not backends:
        yield Finding("error", what, "this backend is not connected", "Settings > Model > Connect Model.")
        return
    ours = [row for row in backends if _port(str(row.get("url"))) == settings.port]
    if not ours:
        ours, there = backends, ", ".join(str(row.get("url")) for row in backends)
        yield Finding(
            "warning",
            what,
            f"connected is {there}, which does not name port {settings.port}",
            "That is right where a proxy or a container has another port outside; else connect this backend.",
        )
    url, state = str(ours[0].get("url")), str(ours[0].get("readable_state") or ours[0].get("state"))
    level: Literal["ok", "error"] = "ok" if state in {"CO", "Connected"} else "error"
    yield Finding(level, what, f"backend {url} is {state}", "" if level == "ok" else _SSRF)
    hooks = [hook for hook in webhooks if str(hook.get("url", "")).startswith(url.rstrip("/"))]
    if not any(hook.get("is_active") for hook in hooks):
        yield Finding("error", what, "no webhook points at the backend: it learns only when it looks", _SSRF)
    elif settings.basic_auth_user and not any(hook.get("headers") for hook in hooks):
        yield Finding(
            "error",
            what,
            "the webhook sends no password",
            "Start the worker: it registers one at its next look (RECONCILE_EVERY).",
        )
    else:
        yield Finding("ok", what, "webhook present")


def _port(url: str) -> int | None:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _first_image(
    settings: Settings, label_studio: LabelStudio, what: str, task: dict[str, Any] | None, values: list[str]
) -> Iterator[Finding]:
    """Whether the first image that a task has can be read; it may lack those of other image tags."""
    if task is None or not values:
        return
    data = task.get("data") or {}
    url = next((url for value in values if (url := image_url(value, data))), None)
    if url is None:
        named = " or ".join(map(repr, values))
        yield Finding("error", what, f"task {task['id']} has no image under {named}", "Check the import.")
        return
    try:
        image = load_images(settings, label_studio).open(url, task["id"])
        yield Finding(
            "ok", what, f"image of task {task['id']} is readable, {image.shape[1]} x {image.shape[0]}"
        )
    except ImageError as error:
        yield Finding("error", what, f"image of task {task['id']}: {error}")
