"""For those who host with label-studio-ml: a model class that asks a running backend of ours, over HTTP.

`label-studio-ml init` copies this one file into another environment, so it needs the standard library and what
label-studio-ml itself brings, and nothing of this repository. It fits label-studio-ml 1.0.9 and the current one.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flask import has_request_context, request
from label_studio_ml.model import LabelStudioMLBase

log = logging.getLogger(__name__)

CURRENT = hasattr(LabelStudioMLBase, "setup")
"""Whether this is the label-studio-ml of its repository; 1.0.9 has no `setup`."""

SETUP_SECONDS, EVENT_SECONDS, PREDICT_SECONDS = 3.0, 10.0, 100.0
"""How long Label Studio itself waits, or longer where it does not."""

LEARN_SECONDS, LOOK_SECONDS = 10.0, 0.25
"""How long an event's revision is waited for, and the pause between two looks."""


class SegGPTBackend(LabelStudioMLBase):
    """Hands what label-studio-ml is asked to the backend at `SEGGPT_URL`, and its answers back."""

    TRAIN_EVENTS = (
        "TASKS_CREATED",
        "TASKS_DELETED",
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATION_DELETED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "PROJECT_UPDATED",
        "PROJECT_DELETED",
        "START_TRAINING",
    )

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if not CURRENT:  # the current one calls it by itself
            self.setup()

    def setup(self) -> None:
        """Pass Label Studio's look on, and take the revision over as this model's version.

        Raises:
            ConnectionError: if the backend gives no answer.
        """
        if not has_request_context() or request.path != "/setup":
            return
        asked = _asked()
        names = ("project", "schema", "hostname", "access_token")
        answer = _post("/setup", {name: asked.get(name) for name in names}, SETUP_SECONDS)
        if CURRENT:
            self.set("model_version", answer["model_version"])

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **_other: Any
    ) -> list[Any]:
        """Predictions of the tasks; `[]`, "I do not know yet", for each where the backend gives no answer.

        Args:
            tasks: as Label Studio sends them.
            context: regions of an interactive request.

        Returns:
            As many as tasks, in Label Studio's form. For 1.0.9 without their version, so that Label Studio takes
            the one that the same server gave it at `/setup`.
        """
        asked = _asked()
        project = asked.get("project") or next(
            (str(task["project"]) for task in tasks if "project" in task), None
        )
        body = {
            "tasks": list(tasks),
            "project": project,
            "label_config": asked.get("label_config"),
            "params": {"context": context},
        }
        try:
            results: list[Any] = _post("/predict", body, PREDICT_SECONDS)["results"]
        except ConnectionError as error:
            log.error("nothing predicted: %s", error)
            return [[] for _ in tasks]
        if CURRENT:
            return results
        return [_without_version(result) if result else [] for result in results]

    def fit(self, *arguments: Any, **named: Any) -> dict[str, Any] | None:
        """Pass an event on; the backend keeps it and learns.

        Args:
            *arguments: event and data, as the current one calls it; 1.0.9 gives tasks, which are not needed.
            **named: `event` and `data`, as 1.0.9 calls it.

        Returns:
            For 1.0.9 the revision, if the event moved it: then this becomes a new version of the model.

        Raises:
            ConnectionError: if the backend gives no answer.
        """
        event, data = _event(arguments, named)
        if CURRENT:
            return _post("/webhook", {**data, "action": event}, EVENT_SECONDS)
        project = _key(data.get("project"))
        before = _revision(project)
        _post("/webhook", {**data, "action": event}, EVENT_SECONDS)
        now, end = before, time.monotonic() + LEARN_SECONDS
        while now == before and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            now = _revision(project)
        known = (self.train_output or {}).get("revision", before)
        return None if now == known else {"train_output": {"revision": now}}


# -- what label-studio-ml keeps to itself ------------------------------------------------------------------------
def _asked() -> Mapping[str, Any]:
    """The request that is being answered; a model is told neither the project's key nor its time of creation."""
    body = request.get_json(silent=True) if has_request_context() else None
    return body if isinstance(body, Mapping) else {}


def _event(arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Event and data of a call of `fit`; without an event it is the old `/train`, which names the project only."""
    given = [*arguments, None, None]
    event = named.get("event") or (given[0] if isinstance(given[0], str) else None)
    data = named.get("data") or (given[1] if isinstance(given[1], Mapping) else None)
    if event and isinstance(data, Mapping):
        return str(event), dict(data)
    number, _, created = str(_asked().get("project") or "").partition(".")
    if not (number.isdecimal() and created.isdecimal()):
        return "START_TRAINING", {}
    instant = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(created)))
    return "START_TRAINING", {"project": {"id": int(number), "created_at": instant}}


def _key(project: object) -> str:
    """`number.seconds`, as Label Studio names a project towards a backend, of an event's project; "" if it has none."""
    try:
        project = dict(project) if isinstance(project, Mapping) else {}
        created = datetime.fromisoformat(
            project["created_at"].replace("Z", "+00:00")
        )  # Python before 3.11 knows no Z
        return f"{project['id']}.{int(created.timestamp())}"
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""


def _without_version(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "model_version"}


# -- the way to the backend --------------------------------------------------------------------------------------
def _revision(project: str) -> str:
    return str(_post("/predict", {"tasks": [], "project": project}, SETUP_SECONDS)["model_version"])


def _post(path: str, body: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What the backend answers.

    Raises:
        ConnectionError: if it does not, or refuses; names the address and what to do.
    """
    url = os.environ.get("SEGGPT_URL", "http://127.0.0.1:9091").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConnectionError(f"SEGGPT_URL must start with http:// or https://, not '{url}'.")
    headers = {"Content-Type": "application/json"}
    if user := os.environ.get("BASIC_AUTH_USER"):
        pair = f"{user}:{os.environ.get('BASIC_AUTH_PASS', '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    asked = urllib.request.Request(url + path, json.dumps(body).encode(), headers)  # noqa: S310 - see above
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is a neighbour
    try:
        with direct.open(asked, timeout=seconds) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        reason, remedy = (
            f"status {error.code}",
            "See its log, and that BASIC_AUTH_USER and BASIC_AUTH_PASS are its own.",
        )
    except (OSError, ValueError) as error:
        reason, remedy = (
            str(getattr(error, "reason", error)),
            "Is it running (`python -m backend serve`)? Is SEGGPT_URL right?",
        )
    raise ConnectionError(f"SegGPT's backend at {url} does not answer {path}: {reason}. {remedy}")
