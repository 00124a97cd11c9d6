"""What a person does in Label Studio's pages, by its API with a password login; knows nothing of the backend's code.

The backend's own client is `backend.label_studio`; this one plays the annotator and the owner of the project.
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from backend import brush_rle
from backend.demo.server import Login
from backend.errors import LabelStudioError, Unauthorized, Unreachable

# Submits, imports and retrieves wait for the backend inside Label Studio: 100 s and more.
TIMEOUT_SECONDS = 300.0


def brush_region(
    mask: npt.NDArray[np.bool_], label: str, *, control: str = "mask", image: str = "image"
) -> dict[str, Any]:
    """A region as the editor's brush makes it, of a bool [H, W] mask at the picture's own size."""
    height, width = mask.shape
    return {
        "id": secrets.token_urlsafe(7)[:10],
        "type": "brushlabels",
        "from_name": control,
        "to_name": image,
        "origin": "manual",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": [label]},
    }


def name_of_upload(task: Mapping[str, Any]) -> str:
    """The name that a task's uploaded file had; Label Studio puts a hash and a dash before it."""
    address = next((value for value in task["data"].values() if isinstance(value, str)), "")
    return address.rpartition("/")[2].partition("-")[2]


class Session:
    """A logged-in user of one Label Studio.

    Every method raises Unreachable where there is no answer and LabelStudioError where the answer is not 2xx.
    """

    def __init__(self, url: str, login: Login) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS, trust_env=False)
        self._log_in(login)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One API call; returns the decoded JSON, None where the answer is empty. `arguments` as for httpx."""
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise Unreachable(
                f"Label Studio at {self.url} gave no answer to {method} {path}: {error!r}."
            ) from error
        if not answer.is_success:
            raise LabelStudioError(
                f"Label Studio answered {answer.status_code} to {method} {path}: {answer.text[:300]}"
            )
        return answer.json() if answer.content else None

    # -- tokens --------------------------------------------------------------------------------------------------
    def new_personal_token(self) -> str:
        """A new personal access token. A user has one at a time, shown only when made, so an old one is revoked."""
        for old in self.call("GET", "/api/token/"):
            self.call("POST", "/api/token/blacklist/", json={"refresh": old["token"]})
        return str(self.call("POST", "/api/token/")["token"])

    def legacy_token(self) -> str:
        """The user's legacy token; it exists also where Label Studio refuses it."""
        return str(self.call("GET", "/api/current-user/token")["token"])

    def allow_legacy_tokens(self, allowed: bool) -> None:
        """Switch legacy tokens on or off for the whole organization."""
        self.call("POST", "/api/jwt/settings", json={"legacy_api_tokens_enabled": allowed})

    # -- projects and tasks --------------------------------------------------------------------------------------
    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        """Make a project; `fields` as in Label Studio's API. Returns the project."""
        made = self.call(
            "POST", "/api/projects/", json={"title": title, "label_config": label_config, **fields}
        )
        return dict(made)

    def project(self, project: int) -> dict[str, Any]:
        """One project with its figures."""
        return dict(self.call("GET", f"/api/projects/{project}/"))

    def find_project(self, title: str) -> dict[str, Any] | None:
        """The project of that title, None where there is none."""
        answer = self.call("GET", "/api/projects/", params={"page_size": 1000, "title": title})
        return next((dict(found) for found in answer["results"] if found["title"] == title), None)

    def change_project(self, project: int, **fields: Any) -> None:
        """Change settings of a project, e.g. its `label_config`."""
        self.call("PATCH", f"/api/projects/{project}/", json=fields)

    def delete_project(self, project: int) -> None:
        """Delete a project with all that is in it."""
        self.call("DELETE", f"/api/projects/{project}/")

    def upload(self, project: int, files: Mapping[str, bytes]) -> list[int]:
        """Upload image files, by name; each becomes a task. Returns the new task ids in the order of `files`."""
        before = {task["id"] for task in self.tasks(project)}
        form = [(name, (name, content, "application/octet-stream")) for name, content in files.items()]
        self.call("POST", f"/api/projects/{project}/import", files=form)
        new = [task for task in self.tasks(project) if task["id"] not in before]
        names = {name_of_upload(task): int(task["id"]) for task in new}
        kept = (
            re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_")) for name in files
        )  # as Label Studio stores it
        return [names[name] for name in kept if name in names]

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Import tasks as JSON (`data`, perhaps `annotations` and `predictions`); returns the new task ids."""
        answer = self.call("POST", f"/api/projects/{project}/import?return_task_ids=true", json=list(tasks))
        return [int(task) for task in answer["task_ids"]]

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """All tasks of a project by id, with their annotations and predictions."""
        parameters = {"project": project, "fields": "all", "page_size": 1000}
        answer = self.call("GET", "/api/tasks/", params=parameters)
        return sorted((dict(task) for task in answer["tasks"]), key=lambda task: int(task["id"]))

    def open_task(self, task: int) -> dict[str, Any]:
        """Open one task as the editor does; Label Studio asks the backend where it has no prediction."""
        return dict(self.call("GET", f"/api/tasks/{task}/"))

    def next_task(self, project: int) -> dict[str, Any]:
        """The label stream's next task; Label Studio asks the backend where its version is new."""
        return dict(self.call("GET", f"/api/projects/{project}/next/"))

    def delete_task(self, task: int) -> None:
        """Delete a task; its annotations go with it."""
        self.call("DELETE", f"/api/tasks/{task}/")

    # -- annotations ---------------------------------------------------------------------------------------------
    def submit(self, task: int, result: Sequence[Mapping[str, Any]], **fields: Any) -> int:
        """Submit an annotation; returns its id."""
        body = {"result": list(result), "lead_time": 7.5, **fields}
        return int(self.call("POST", f"/api/tasks/{task}/annotations/", json=body)["id"])

    def skip(self, task: int) -> int:
        """Skip a task, as the editor's button does; returns the id of the annotation that says so."""
        return self.submit(task, [], was_cancelled=True)

    def update(self, annotation: int, result: Sequence[Mapping[str, Any]]) -> None:
        """Put another result into a submitted annotation."""
        self.call("PATCH", f"/api/annotations/{annotation}/", json={"result": list(result)})

    def delete_annotation(self, annotation: int) -> None:
        """Delete an annotation."""
        self.call("DELETE", f"/api/annotations/{annotation}/")

    def convert_to_draft(self, annotation: int) -> None:
        """Turn a submitted annotation back into a draft; Label Studio tells no backend about it."""
        self.call("POST", f"/api/annotations/{annotation}/convert-to-draft", json={})

    def annotations(self, task: int) -> list[dict[str, Any]]:
        """The annotations of a task."""
        return [dict(found) for found in self.call("GET", f"/api/tasks/{task}/annotations/")]

    # -- predictions ---------------------------------------------------------------------------------------------
    def predictions(self, task: int) -> list[dict[str, Any]]:
        """The predictions that Label Studio holds for a task, without asking the backend for one."""
        return [dict(found) for found in self.call("GET", "/api/predictions/", params={"task": task})]

    def act(self, action: str, project: int, tasks: Iterable[int], **fields: Any) -> dict[str, Any]:
        """A Data Manager action on chosen tasks, e.g. `retrieve_tasks_predictions`."""
        chosen = {"all": False, "included": list(tasks)}
        body = {"selectedItems": chosen, "project": str(project), "ordering": [], **fields}
        return dict(self.call("POST", f"/api/dm/actions/?id={action}&project={project}", json=body))

    def retrieve_predictions(self, project: int, tasks: Iterable[int]) -> None:
        """The Data Manager's "Retrieve Predictions"."""
        self.act("retrieve_tasks_predictions", project, tasks)

    def accept_in_bulk(self, project: int, tasks: Iterable[int], model_version: str) -> None:
        """The Data Manager's "Create Annotations From Predictions"."""
        self.act("predictions_to_annotations", project, tasks, model_version=model_version)

    # -- connection ----------------------------------------------------------------------------------------------
    def connect(self, project: int, url: str, title: str = "SegGPT") -> int:
        """Connect a backend to a project, for its smart tools too; registers its webhook. Returns Label Studio's id of it."""
        body = {"project": project, "url": url, "title": title, "is_interactive": True}
        return int(self.call("POST", "/api/ml/", json=body)["id"])

    def backends(self, project: int) -> list[dict[str, Any]]:
        """The backends connected to a project; Label Studio looks after each when asked."""
        return [dict(found) for found in self.call("GET", "/api/ml/", params={"project": project})]

    def point_at(self, backend: int, task: int, hints: Sequence[Mapping[str, Any]]) -> Any:
        """What the editor gets for clicks or boxes of a smart tool: the backend's prediction, `[]` for none."""
        body = {"task": task, "context": {"result": list(hints)}}
        answer = self.call("POST", f"/api/ml/{backend}/interactive-annotating", json=body)
        if answer.get("errors"):
            raise LabelStudioError(f"Label Studio got no suggestion: {answer['errors']}")
        return answer["data"]

    def start_training(self, backend: int) -> None:
        """What the button "Start training" sends."""
        self.call("POST", f"/api/ml/{backend}/train", json={})

    def webhooks(self, project: int) -> list[dict[str, Any]]:
        """The webhooks of a project."""
        return [dict(found) for found in self.call("GET", "/api/webhooks/", params={"project": project})]

    def disconnect(self, project: int, backend: int) -> None:
        """Remove a backend and the webhook to it, which Label Studio itself would leave behind."""
        url = next((found["url"] for found in self.backends(project) if found["id"] == backend), None)
        self.call("DELETE", f"/api/ml/{backend}")
        for webhook in self.webhooks(project):
            if url is not None and webhook["url"].startswith(url.rstrip("/") + "/"):
                self.call("DELETE", f"/api/webhooks/{webhook['id']}/")

    def _log_in(self, login: Login) -> None:
        try:
            self._http.get("/user/login/").raise_for_status()
            form = {"email": login.email, "password": login.password}
            form["csrfmiddlewaretoken"] = self._http.cookies["csrftoken"]
            answer = self._http.post("/user/login/", data=form, headers={"Referer": self.url})
        except httpx.HTTPError as error:
            raise Unreachable(f"Label Studio at {self.url} cannot be logged in to: {error!r}.") from error
        if not answer.is_redirect:
            raise Unauthorized(f"Label Studio refuses the login {login.email}.")
        self._http.headers["X-CSRFToken"] = self._http.cookies["csrftoken"]
        self._http.headers["Referer"] = self.url
