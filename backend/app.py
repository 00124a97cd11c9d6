"""The ML-backend protocol over HTTP; decides nothing else."""

import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from backend import __version__, admin, bodies, errors, lost_labels, page, revision, troubles
from backend.admin import documents
from backend.admin.answers import problems
from backend.delivery import Delivery
from backend.headers import SecurityHeaders
from backend.jobs import Jobs
from backend.learner.learner import key_of
from backend.pre_annotation import PREDICTING
from backend.predictor import Predictions
from backend.protocol import (
    PredictRequest,
    PredictResponse,
    SetupRequest,
    SetupResponse,
    is_id,
    is_project_key,
    kept_of_event,
    project_key,
)
from backend.refusals import basic_auth, explain_errors
from backend.revision import Snapshot
from backend.wiring import Backend

log = logging.getLogger(__name__)

_MEANINGS = {
    401: "`BASIC_AUTH_USER` is set, and the request does not carry it with its password.",
    413: "The body is larger than `MAX_BODY_BYTES`.",
    422: "The body cannot be understood; `detail` names the field.",
    503: "The store cannot be used now.",
}

_AT_ONCE = 4  # requests that predict side by side; more would only wait for the device


def create_app(
    backend: Backend,
    jobs: Jobs,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    learned: Callable[[str, str], None] | None = None,
) -> FastAPI:
    """The web application.

    Args:
        backend: what answers.
        jobs: where work for later is put.
        lifespan: what starts and ends with the server, such as the worker process.
        learned: told the host name and token of each `/setup`, so that a worker has them too.
    """
    service = _Service(backend, jobs, learned)
    app = FastAPI(
        title="SegGPT for Label Studio",
        description=admin.DESCRIPTION,
        version=__version__,
        openapi_tags=admin.TAGS,
        openapi_url=None,  # see `admin.documents`
        lifespan=_delivering(lifespan or _nothing, service),
    )
    app.add_middleware(SecurityHeaders)
    app.state.delivery = service.delivery
    guarded = [Depends(basic_auth(backend.settings))]
    told: dict[str, Any] = {
        "dependencies": guarded,
        "responses": problems(401, 413, 422, 503, meanings=_MEANINGS),
    }
    limiter = CapacityLimiter(_AT_ONCE)
    Raw = Annotated[bytes, Depends(bodies.reader(backend.settings.max_body_bytes))]

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Alive; answered by the event loop itself, so that no full thread pool delays it."""
        return {"status": "UP", "model_class": "SegGPT", "store": "away" if service.delivery.away else "here"}

    @app.post("/setup", **told, openapi_extra=bodies.documented(SetupRequest))
    def setup(body: Raw) -> SetupResponse:
        """Label Studio's look: remembers the label config, answers the revision."""
        return service.setup(bodies.parse(SetupRequest, body))

    @app.post("/predict", **told, openapi_extra=bodies.documented(PredictRequest))
    async def predict(body: Raw) -> PredictResponse:
        """Predictions for all tasks of the request, as far as the deadline allows."""
        arrived = time.monotonic()  # whoever waits for a turn has waited for the answer
        return await run_sync(
            lambda: service.predict(bodies.parse(PredictRequest, body), arrived), limiter=limiter
        )

    @app.post("/webhook", status_code=201, **told, openapi_extra=bodies.documented())
    def webhook(body: Raw) -> dict[str, str]:
        """An event: stored before it is acknowledged, applied by a worker."""
        return service.webhook(bodies.parse_any(body))

    @app.get("/versions", dependencies=guarded, responses=problems(401, 503, meanings=_MEANINGS))
    def versions() -> dict[str, list[str]]:
        """Revisions of all projects, since Label Studio does not say which one it means."""
        return {"versions": service.versions()}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Figures for Prometheus."""
        service.gauge()
        return Response(backend.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    offered = admin.subjects(backend, jobs)
    app.include_router(admin.router(backend, offered))
    app.include_router(documents.routes(backend, app))
    app.include_router(page.router(backend, jobs, offered))
    explain_errors(app)
    return app


@asynccontextmanager
async def _nothing(_app: FastAPI) -> AsyncIterator[None]:
    yield


def _delivering(
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]], service: "_Service"
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The lifespan, with events that wait on the disk delivered meanwhile."""

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[None]:
        service.delivery.start()
        async with lifespan(app):
            yield
        service.delivery.stop()

    return both


class _Service:
    """What each route does, free of HTTP."""

    def __init__(self, backend: Backend, jobs: Jobs, learned: Callable[[str, str], None] | None) -> None:
        self._backend = backend
        self._jobs = jobs
        self._learned = learned
        self._revisions: dict[str, str] = {}  # as last seen, for when the store is away
        self._away: set[str] = set()  # reasons that were told
        self.delivery = Delivery(backend.store, backend.spool, self._key_of, self._delivered)

    def setup(self, request: SetupRequest) -> SetupResponse:
        with self._timed("setup"):
            self._backend.label_studio.learn_from_setup(request.hostname, request.access_token)
            if self._learned:
                self._learned(request.hostname, request.access_token)
            try:
                key = self._project(request.project)
                self._see(key, request.label_config)
                return SetupResponse(model_version=self._snapshot(key).revision)
            except errors.StoreError:
                if (known := self._revisions.get(request.project or "")) is None:
                    raise
                return SetupResponse(model_version=known)

    def predict(self, request: PredictRequest, arrived: float) -> PredictResponse:
        """Predictions; where the store is away, "I do not know yet" for each task."""
        try:
            return self._predict(request, arrived)
        except errors.StoreError as error:
            log.warning("nothing predicted: %s", error)
            nothing = revision.name(self._backend.checkpoint, 0)
            known = self._revisions.get(request.project or "", nothing)
            return PredictResponse(results=[[] for _ in request.tasks], model_version=known)

    def _predict(self, request: PredictRequest, arrived: float) -> PredictResponse:
        deadline = arrived + self._backend.settings.predict_deadline
        with self._timed("predict"), self._predicting():
            key = self._project(request.project)
            self._see(key, request.label_config or "", waited=time.monotonic() - arrived)
            snapshot = self._snapshot(key)
            if hints := request.interaction:
                suggested = self._backend.interactive.answer(snapshot, request.tasks, hints, deadline)
                return PredictResponse(results=suggested, model_version=snapshot.revision)
            predictions = self._backend.predictor.predict(snapshot, request.tasks, deadline, strict=True)
            self._remember(snapshot, predictions)
        done = {task: prediction.wire() for task, prediction in predictions.done.items()}
        answers: list[Any] = [
            done.get(task["id"], []) if is_id(task.get("id")) else [] for task in request.tasks
        ]
        return PredictResponse(results=answers, model_version=snapshot.revision)

    def webhook(self, payload: object) -> dict[str, str]:
        with self._timed("webhook"):
            if not isinstance(payload, Mapping) or not isinstance(payload.get("action"), str):
                return {"status": "ignored", "reason": "no action"}
            action = str(payload["action"])
            self._backend.metrics.events.labels(action if action in KNOWN_ACTIONS else "other").inc()
            if action not in KNOWN_ACTIONS:
                return {"status": "ignored", "reason": "unknown action"}
            key, new = self._told_of(payload)
            if key is None or not (is_project_key(key) or self.delivery.away):
                return {"status": "ignored", "reason": "no project that is known"}
            if self.delivery.keep(key, action, kept_of_event(payload), time.time()):
                self._jobs.learn(key)
                if new and self._backend.label_studio.configured:
                    self._jobs.reconcile(key)
            return {"status": "stored"}

    def versions(self) -> list[str]:
        store, checkpoint = self._backend.store, self._backend.checkpoint
        named = {revision.current(store, record, checkpoint) for record in store.projects()}
        return sorted(named) or [revision.name(checkpoint, 0)]

    def gauge(self) -> None:
        """Bring the figures that live in the store up to date; those of a store that is away stay as they were."""
        metrics = self._backend.metrics
        metrics.spooled_events.set(self.delivery.waiting)
        try:
            self._gauge()
            metrics.store_away.set(0)
        except errors.StoreError:
            metrics.store_away.set(1)

    def _gauge(self) -> None:
        store, metrics = self._backend.store, self._backend.metrics
        metrics.pool.clear()
        for record in store.projects():
            snapshot = self._snapshot(record.key)
            for target, pool in snapshot.pool.items():
                metrics.pool.labels(record.key, target).set(len(pool))
            metrics.prompts.labels(record.key).set(len(snapshot.prompts))
            tunings = store.prompts.tunings(record.key)
            metrics.tunings.labels(record.key).set(sum(tuning.is_open for tuning in tunings))
            metrics.approvals.labels(record.key).set(record.approvals)
            kept = store.kept_figures(record.key)
            metrics.kept_count.labels(record.key).set(kept.count)
            if kept.recent is not None:
                metrics.kept.labels(record.key).set(kept.recent)
        for lane, depth in self._jobs.depths().items():
            metrics.queue.labels(lane).set(depth)
        metrics.pending_events.set(store.count_events())

    # -- inside --------------------------------------------------------------------------------------------------
    def _told_of(self, payload: Mapping[str, Any]) -> tuple[str | None, bool]:
        """The project that an event is about, and whether it is new; while the store is away, by the event alone."""
        if not self.delivery.away:
            try:
                key = self._key_of(payload)
                return key, key is not None and self._backend.store.project(key) is None
            except errors.StoreError:
                if self._backend.spool is None:
                    raise
        return project_key(payload.get("project")), False  # which one it is, is seen when it is delivered

    def _key_of(self, payload: Mapping[str, Any]) -> str | None:
        key = key_of(payload, self._backend.store)
        return key if key is None or is_project_key(key) else None

    def _delivered(self, key: str) -> None:
        """An event that waited on the disk is in the store: apply it, and see what else was missed."""
        self._jobs.learn(key)
        if self._backend.label_studio.configured:
            self._jobs.reconcile(key)

    def _project(self, named: str | None) -> str:
        """The project's key; "" where the request names none that can be told."""
        if named is None or is_project_key(named):
            return named or ""
        return revision.project_of(self._backend.store, named) or ""

    def _see(self, key: str, label_config: str, waited: float = 0.0) -> None:
        """Remember a project's label config as it was so many seconds ago; what follows from it is done later."""
        if not key or not label_config:
            return
        troubles.over(self._backend.store, "gone", key)
        known = self._backend.store.project(key)
        if known is not None and known.label_config == label_config:
            return
        moved = lost_labels.put_label_config(self._backend.store, key, label_config, time.time() - waited)
        if self._backend.label_studio.configured and (known is None or moved):
            self._jobs.reconcile(key)  # what was approved may teach something else now

    def _snapshot(self, key: str) -> Snapshot:
        snapshot = revision.take(self._backend.store, key, self._backend.checkpoint)
        if snapshot.record is not None:  # not for every name that somebody makes up
            self._revisions[key] = snapshot.revision
        return snapshot

    def _remember(self, snapshot: Snapshot, predictions: Predictions) -> None:
        count = self._backend.metrics.predictions
        count.labels("done").inc(len(predictions.done))
        count.labels("failed").inc(len(predictions.failed))
        count.labels("unready").inc(len(predictions.unready))
        count.labels("unreached").inc(len(predictions.unreached))
        self._tell(snapshot.project, predictions)
        if not snapshot.project:
            return
        pre_annotation = self._backend.pre_annotation
        pre_annotation.answered(snapshot, predictions.done)
        pre_annotation.failed(snapshot, predictions.failed)
        if predictions.unreached:
            pre_annotation.queue(snapshot, predictions.unreached, "not reached before the deadline")
            if self._backend.label_studio.configured:
                self._jobs.left_overs(snapshot.project, predictions.unreached)

    def _tell(self, project: str, predictions: Predictions) -> None:
        """Log why tasks failed: each, but where Label Studio is away each reason once until it is back."""
        away: set[str] = set()
        for task, reason in predictions.failed.items():
            if task not in predictions.away:
                log.warning("project %s task %d: %s", project, task, reason)
            elif reason not in away | self._away:
                log.warning("project %s: images cannot be had: %s", project, reason)
            away |= {reason} if task in predictions.away else set()
        self._away = away

    @contextmanager
    def _predicting(self) -> Iterator[None]:
        """While a request is answered, background work gives way."""
        lease, owner = f"{PREDICTING}{uuid.uuid4().hex}", "app"
        self._backend.store.acquire(lease, owner, self._backend.settings.predict_deadline + 20)
        try:
            yield
        finally:
            self._backend.store.release(lease, owner)

    @contextmanager
    def _timed(self, route: str) -> Iterator[None]:
        with self._backend.metrics.requests.labels(route).time():
            yield


KNOWN_ACTIONS = frozenset(
    {
        "TASKS_CREATED",
        "TASKS_DELETED",
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATION_DELETED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "PROJECT_CREATED",
        "PROJECT_UPDATED",
        "PROJECT_DELETED",
        "START_TRAINING",
    }
)
"""Events of Label Studio that are stored; any other is acknowledged and ignored."""
