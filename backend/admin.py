"""Admin API: what the backend knows of each project, for people and scripts; knows no queue."""

import hmac
import ipaddress
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request

from backend import revision
from backend.errors import NotFound
from backend.label_config import Target
from backend.revision import Snapshot
from backend.store import ExampleInfo
from backend.wiring import Backend


def router(backend: Backend) -> APIRouter:
    """Routes below `/api`: by bearer token where `ADMIN_TOKEN` is set, else from this machine only."""
    routes = APIRouter(prefix="/api", tags=["admin"], dependencies=[Depends(_guard(backend))])

    @routes.get("/projects")
    def projects() -> list[dict[str, Any]]:
        """Projects that the backend has seen."""
        return [_project(backend, record.key) for record in backend.store.projects()]

    @routes.get("/projects/{key}")
    def project(key: str) -> dict[str, Any]:
        """One project: revision, approvals, targets with their pools, kept IoU."""
        return _project(backend, key)

    @routes.get("/projects/{key}/examples")
    def examples(key: str) -> list[dict[str, Any]]:
        """Examples in the pools, oldest first."""
        snapshot = _snapshot(backend, key)
        targets = {target.id: target for target in snapshot.config.targets}
        return [_example(info, targets.get(info.target)) for pool in snapshot.pool.values() for info in pool]

    @routes.get("/projects/{key}/tasks")
    def tasks(key: str) -> list[dict[str, Any]]:
        """Where background predictions stand, with the reason for each task that got nothing."""
        _snapshot(backend, key)
        return [
            {
                "task": state.task,
                "status": state.status,
                "reason": state.reason,
                "revision": state.revision,
                "at": state.at,
            }
            for state in backend.store.task_states(key)
        ]

    @routes.get("/projects/{key}/tasks/{task}/predictions")
    def predictions(key: str, task: int) -> list[dict[str, Any]]:
        """Predictions of a task, newest first, each with the exact context behind it."""
        _snapshot(backend, key)
        return [
            {
                "revision": record.revision,
                "at": record.at,
                "score": record.score,
                "context": {target: list(keys) for target, keys in record.context.items()},
                "pushed": record.pushed,
                "seconds": record.seconds,
            }
            for record in backend.store.predictions(key, task)
        ]

    return routes


def _guard(backend: Backend) -> Callable[[Request], None]:
    expected = backend.settings.admin_token.get_secret_value()

    def check(request: Request) -> None:
        if expected:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {expected}".encode()):
                raise HTTPException(401, "The admin API wants 'Authorization: Bearer <ADMIN_TOKEN>'.")
        elif not _is_loopback(request.client.host if request.client else ""):
            raise HTTPException(403, "Set ADMIN_TOKEN to use the admin API from another machine.")

    return check


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _snapshot(backend: Backend, key: str) -> Snapshot:
    if backend.store.project(key) is None:
        raise NotFound(f"there is no project '{key}'; see /api/projects.")
    return revision.take(backend.store, key, backend.checkpoint)


def _project(backend: Backend, key: str) -> dict[str, Any]:
    snapshot = _snapshot(backend, key)
    record = backend.store.project(key)
    kept = [row.iou for row in backend.store.kept(key)]
    return {
        "project": key,
        "revision": snapshot.revision,
        "approvals": record.approvals if record else 0,
        "reconciled": record.reconciled if record else 0.0,
        "targets": [
            {**_target(target), "examples": len(snapshot.pool.get(target.id, ()))}
            for target in snapshot.config.targets
        ],
        "kept_iou": {"count": len(kept), "mean": sum(kept) / len(kept) if kept else None},
    }


def _target(target: Target) -> dict[str, Any]:
    return {"target": target.id, "control": target.control, "image": target.image, "label": target.label}


def _example(info: ExampleInfo, target: Target | None) -> dict[str, Any]:
    return {
        "key": info.key,
        "target": info.target,
        "label": target.label if target else None,
        "task": info.task,
        "annotation": info.annotation,
        "kind": info.kind,
        "annotator": info.annotator,
        "at": info.at,
        "area": info.area,
        "leave_one_out_iou": info.score,
    }
