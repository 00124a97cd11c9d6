"""Label Studio's part of the network, on loopback: the one fake of the backend's tests. Answers as 1.23.2 does.

It has projects, tasks, annotations, predictions, export, webhooks, backends, uploads, tokens (personal ones exchanged,
access tokens that expire) and signed addresses.
"""

import base64
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.backend.loopback import Answer, LoopbackServer, Request, as_json

LABEL_CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="tag" toName="image"><Label value="cell"/></BrushLabels></View>'
)


def problem(status: int, detail: str) -> Answer:
    return as_json({"status_code": status, "version": "1.23.2", "detail": detail, "exc_info": None}, status)


class FakeLabelStudio(LoopbackServer):
    """Label Studio, as far as the backend speaks to it."""

    def __init__(self) -> None:
        super().__init__()
        self.legacy_token = "0123456789abcdef" * 2 + "01234567"
        self.personal_token = jwt(
            {"token_type": "refresh", "exp": 8102827499, "iat": 1795627499, "user_id": "1"}
        )
        self.legacy_allowed = True
        self.access_seconds = 300
        self.clock: Callable[[], float] = time.time
        self.exchanges = 0
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.annotations: dict[int, dict[str, Any]] = {}
        self._newest = 0  # annotation: no id is given twice, also where it was deleted
        self.stored_predictions: dict[int, dict[str, Any]] = {}
        self.backends: list[dict[str, Any]] = []
        self.webhooks: dict[int, dict[str, Any]] = {}
        self.uploads: dict[str, Answer] = {}
        self.signed: dict[str, str] = {}  # address in a bucket -> where its signed address leads
        self.failures: list[Answer] = []  # answered first, one a request
        self._access: dict[str, float] = {}
        self._ticks = 0

    # -- what a person does in Label Studio ----------------------------------------------------------------------
    def add_project(self, label_config: str = LABEL_CONFIG, **fields: Any) -> int:
        number = len(self.projects) + 1
        standard = {"title": f"Project {number}", "model_version": "", "sampling": "Sequential sampling"}
        self.projects[number] = {
            "id": number, "label_config": label_config, "created_at": f"2026-01-01T00:00:{number:02d}.250000Z",
            "maximum_annotations": 1, "skip_queue": "REQUEUE_FOR_OTHERS", "show_collab_predictions": True,
            "evaluate_predictions_automatically": False, **standard, **fields,
        }  # fmt: skip
        return number

    def add_task(self, project: int, image: bytes | str | None = None, **data: Any) -> int:
        """A task with these data; an `image` of bytes is uploaded, one of text is an address."""
        number = max(self.tasks, default=0) + 1
        if isinstance(image, bytes):
            path = f"/data/upload/{project}/{number:08x}-picture.png"
            self.uploads[path] = Answer(200, image, {"Content-Type": "image/png"})
            data["image"] = path
        elif image is not None:
            data["image"] = image
        self.tasks[number] = {
            "id": number,
            "project": project,
            "data": data,
            "meta": {},
            "updated_at": self._now(),
        }
        return number

    def annotate(self, task: int, result: list[Any], **fields: Any) -> int:
        number = self._newest = max(self._newest, *self.annotations, 0) + 1
        now = self._now()
        self.annotations[number] = {
            "id": number, "task": task, "project": self.tasks[task]["project"], "result": result, "completed_by": 1,
            "was_cancelled": False, "ground_truth": False, "created_at": now, "updated_at": now, "lead_time": 1.5,
            "prediction": {}, "result_count": len(result), "bulk_created": False, "updated_by": 1, "last_action": None,
            "parent_prediction": None, "parent_annotation": None, **fields,
        }  # fmt: skip
        self.tasks[task]["updated_at"] = now
        return number

    def edit(self, annotation: int, **fields: Any) -> None:
        now = self._now()
        self.annotations[annotation].update(fields, updated_at=now)
        self.tasks[self.annotations[annotation]["task"]]["updated_at"] = now

    def withdraw(self, annotation: int) -> None:
        """Delete an annotation, or turn it into a draft: the export shows no difference."""
        task = self.annotations.pop(annotation)["task"]
        self.tasks[task]["updated_at"] = self._now()

    def delete_task(self, task: int) -> None:
        del self.tasks[task]
        self.annotations = {key: item for key, item in self.annotations.items() if item["task"] != task}
        self.stored_predictions = {
            key: item for key, item in self.stored_predictions.items() if item["task"] != task
        }

    def asked(self, path: str) -> list[Request]:
        """Requests for this path, in order."""
        return [request for request in self.requests if request.path == path]

    # -- what it answers -----------------------------------------------------------------------------------------
    def answer(self, request: Request) -> Answer:
        with self.lock:
            if self.failures:
                return self.failures.pop(0)
            if request.path == "/api/token/refresh/":
                return self._exchange(request)
            refusal = self._refusal(request.authorization)
            if refusal:
                return problem(401, refusal)
            for pattern, respond in self._routes():
                found = re.fullmatch(pattern, f"{request.method} {request.path}")
                if found:
                    return respond(request, *found.groups())
            return Answer(404, b"<!doctype html><html><title>Label Studio</title></html>")

    def _routes(self) -> list[tuple[str, Callable[..., Answer]]]:
        return [
            (r"GET /api/version", lambda request: as_json({"release": "1.23.2"})),
            (r"GET /api/current-user/whoami", lambda request: as_json({"id": 1, "email": "a@example.com"})),
            (r"GET /api/projects/", self._list_projects),
            (r"GET /api/projects/(\d+)/", self._show_project),
            (r"PATCH /api/projects/(\d+)/", self._patch_project),
            (r"GET /api/projects/(\d+)/export", self._export),
            (r"GET /api/tasks/", self._list_tasks),
            (r"GET /api/tasks/(\d+)/", self._show_task),
            (r"GET /api/predictions/", self._list_predictions),
            (r"POST /api/predictions/", self._create_prediction),
            (r"PATCH /api/predictions/(\d+)/", self._patch_prediction),
            (r"DELETE /api/predictions/(\d+)/", self._delete_prediction),
            (r"GET /api/ml/", lambda request: as_json(self._of_project(self.backends, request))),
            (
                r"GET /api/webhooks/",
                lambda request: as_json(self._of_project([*self.webhooks.values()], request)),
            ),
            (r"PATCH /api/webhooks/(\d+)/", self._patch_webhook),
            (r"GET (/data/.*)", lambda request, path: self.uploads.get(unquote(path), Answer(404))),
            (r"GET /tasks/(\d+)/(?:presign|resolve)/", self._sign),
            (
                r"GET /user/login/",
                lambda request: Answer(200, b"<!DOCTYPE html>\n<html><body>Log in</body></html>"),
            ),
        ]

    def _exchange(self, request: Request) -> Answer:
        self.exchanges += 1
        if request.json.get("refresh") != self.personal_token:
            return problem(401, "Token is invalid")
        issued = int(self.clock())
        claims = {
            "token_type": "access",
            "exp": issued + self.access_seconds,
            "iat": issued,
            "jti": self.exchanges,
        }
        access = jwt(claims)
        self._access[access] = self.clock() + self.access_seconds
        return as_json({"access": access})

    def _refusal(self, authorization: str | None) -> str:
        kind, _, token = (authorization or "").partition(" ")
        if not token:
            return "Authentication credentials were not provided."
        if kind == "Bearer":
            return (
                ""
                if self._access.get(token, 0) > self.clock()
                else "Given token not valid for any token type"
            )
        if kind != "Token" or token != self.legacy_token:
            return "Invalid token."
        return (
            ""
            if self.legacy_allowed
            else "Authentication token no longer valid: legacy token authentication has been disabled"
        )

    def revoke_access_tokens(self) -> None:
        self._access.clear()

    def _list_projects(self, request: Request) -> Answer:
        page, size = int(request.query.get("page", 1)), min(int(request.query.get("page_size", 30)), 100)
        ids = sorted(self.projects, reverse=True)
        found = [self._project(number) for number in ids[(page - 1) * size : page * size]]
        following = f"{self.url}/api/projects/?page={page + 1}" if page * size < len(ids) else None
        return as_json({"count": len(ids), "next": following, "previous": None, "results": found})

    def _show_project(self, request: Request, number: str) -> Answer:
        if int(number) not in self.projects:
            return problem(404, "No Project matches the given query.")
        return as_json(self._project(int(number)))

    def _patch_project(self, request: Request, number: str) -> Answer:
        if int(number) not in self.projects:
            return problem(404, "No Project matches the given query.")
        version = request.json.get("model_version", "")
        known = {row["title"] for row in self.backends if row["project"] == int(number) and "title" in row}
        known |= {
            row["model_version"] for row in self.stored_predictions.values() if row["project"] == int(number)
        }
        if version not in {"", self.projects[int(number)]["model_version"], *known}:
            why = "Model version doesn't exist either as live model or as static predictions."
            return as_json({"validation_errors": {"model_version": [why]}}, 400)
        self.projects[int(number)].update(request.json)
        return as_json(self._project(int(number)))

    def _project(self, number: int) -> dict[str, Any]:
        tasks = [task for task in self.tasks.values() if task["project"] == number]
        annotations = [item for item in self.annotations.values() if item["project"] == number]
        done = [item for item in annotations if not item["was_cancelled"]]
        return {
            **self.projects[number],
            "task_number": len(tasks) or None,
            "num_tasks_with_annotations": len({item["task"] for item in done if not item["ground_truth"]}),
            "total_annotations_number": len(done),
            "skipped_annotations_number": len(annotations) - len(done),
            "ground_truth_number": len({item["task"] for item in done if item["ground_truth"]}),
            "total_predictions_number": len(
                [p for p in self.stored_predictions.values() if p["project"] == number]
            ),
        }

    def _task(self, task: dict[str, Any]) -> dict[str, Any]:
        annotations = [item for item in self.annotations.values() if item["task"] == task["id"]]
        skipped = [item for item in annotations if item["was_cancelled"]]
        predictions = [item for item in self.stored_predictions.values() if item["task"] == task["id"]]
        counts = {"total_annotations": len(annotations) - len(skipped), "cancelled_annotations": len(skipped)}
        needed = self.projects[task["project"]]["maximum_annotations"]
        labeled = counts["total_annotations"] >= needed  # a skipped one comes again, for others
        return {**task, **counts, "is_labeled": labeled, "total_predictions": len(predictions), "drafts": []}

    def _list_tasks(self, request: Request) -> Answer:
        if int(request.query["project"]) not in self.projects:
            return problem(404, "No Project matches the given query.")
        asked = json.loads(request.query.get("query", "{}"))
        found = [
            self._task(task)
            for task in self.tasks.values()
            if task["project"] == int(request.query["project"])
        ]
        chosen = asked.get("selectedItems", {}).get(
            "included", []
        )  # an empty list chooses all, as in the real one
        found = [task for task in found if not chosen or task["id"] in chosen]
        filters = asked.get("filters", {"conjunction": "and", "items": []})
        together = {"and": all, "or": any}[filters["conjunction"]]
        if filters["items"]:
            found = [task for task in found if together(_passes(task, item) for item in filters["items"])]
        order = asked.get("ordering", ["tasks:id"])[0]
        found.sort(
            key=lambda task: task[order.lstrip("-").removeprefix("tasks:")], reverse=order.startswith("-")
        )
        page, size = int(request.query.get("page", 1)), int(request.query.get("page_size", 100))
        part = found[(page - 1) * size : page * size]
        return (
            problem(404, "Invalid page.")
            if page > 1 and not part
            else as_json({"total": len(found), "tasks": part})
        )

    def _show_task(self, request: Request, number: str) -> Answer:
        task = self.tasks.get(int(number))
        if task is None:
            return problem(404, "No Task matches the given query.")
        annotations = [
            {**item, "completed_by": {"id": 1}} for item in self._by_task(self.annotations, int(number))
        ]
        predictions = self._by_task(self.stored_predictions, int(number))
        return as_json({**self._task(task), "annotations": annotations, "predictions": predictions})

    def _export(self, request: Request, project: str) -> Answer:
        ids = {int(number) for number in parse_qs(urlsplit(request.target).query).get("ids[]", [])}
        found = []
        for task in sorted(self.tasks.values(), key=lambda task: int(task["id"])):
            annotations = self._by_task(self.annotations, task["id"])
            if task["project"] == int(project) and annotations and (not ids or task["id"] in ids):
                predictions = [item["id"] for item in self._by_task(self.stored_predictions, task["id"])]
                found.append({**self._task(task), "annotations": annotations, "predictions": predictions})
        return (
            as_json(found) if int(project) in self.projects else Answer(404, b"<!doctype html><html></html>")
        )

    @staticmethod
    def _by_task(items: dict[int, dict[str, Any]], task: int) -> list[dict[str, Any]]:
        return [item for item in items.values() if item["task"] == task]

    def _list_predictions(self, request: Request) -> Answer:
        task = int(request.query["task"])
        if task not in self.tasks:
            return as_json({"validation_errors": {"task": ["Select a valid choice."]}}, 400)
        return as_json(self._by_task(self.stored_predictions, task))

    def _create_prediction(self, request: Request) -> Answer:
        task = self.tasks.get(request.json["task"])
        if task is None:
            return as_json({"validation_errors": {"task": ["Invalid pk - object does not exist."]}}, 400)
        number = max(self.stored_predictions, default=0) + 1
        stored = {
            "id": number,
            "project": task["project"],
            "created_at": self._now(),
            "model": None,
            **request.json,
        }
        self.stored_predictions[number] = stored
        task["updated_at"] = self._now()
        return as_json(stored, 201)

    def _patch_prediction(self, request: Request, number: str) -> Answer:
        if int(number) not in self.stored_predictions:
            return problem(404, "No Prediction matches the given query.")
        self.stored_predictions[int(number)].update(request.json)
        return as_json(self.stored_predictions[int(number)])

    def _delete_prediction(self, request: Request, number: str) -> Answer:
        gone = self.stored_predictions.pop(int(number), None)
        if gone is None:
            return problem(404, "No Prediction matches the given query.")
        self.tasks[gone["task"]]["updated_at"] = self._now()
        for annotation in self.annotations.values():
            if annotation["parent_prediction"] == int(number):
                annotation["parent_prediction"] = None
        return Answer(204)

    @staticmethod
    def _of_project(items: list[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
        return [item for item in items if item["project"] == int(request.query["project"])]

    def _patch_webhook(self, request: Request, number: str) -> Answer:
        if int(number) not in self.webhooks:
            return problem(404, "No Webhook matches the given query.")
        self.webhooks[int(number)].update(request.json)
        return as_json(self.webhooks[int(number)])

    def _sign(self, request: Request, task: str) -> Answer:
        uri = base64.urlsafe_b64decode(request.query["fileuri"]).decode()
        known = int(task) in self.tasks and uri in self.signed
        return Answer(303, b"", {"Location": self.signed[uri]}) if known else Answer(404)

    def _now(self) -> str:
        self._ticks += 1
        return f"2026-11-25T12:{self._ticks // 60 % 60:02d}:{self._ticks % 60:02d}.000000Z"


def jwt(claims: dict[str, Any]) -> str:
    """A token of the right form, signed with nothing."""
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.c2lnbmF0dXJl"


def _passes(task: dict[str, Any], item: dict[str, Any]) -> bool:
    """Whether a task passes one filter of the Data Manager."""
    value = task[item["filter"].removeprefix("filter:tasks:")]
    return bool(value > item["value"] if item["operator"] == "greater" else value == item["value"])
