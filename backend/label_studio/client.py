"""What is asked of Label Studio's API, typed; knows no store and no masks.

Facts below were measured against Label Studio 1.23.2.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from backend.errors import LabelStudioError, NotFound, Unreachable
from backend.label_studio.connection import Connection
from backend.label_studio.records import ProjectInfo
from backend.label_studio.trouble import is_outage
from backend.protocol import project_number

_PAGE = 100  # tasks or projects in one answer
_IDS_AT_ONCE = 200  # in one request: its address stays below 8 KiB
_EXPORT_PATIENCE = 12  # an export may take this many times the ordinary time-out
_STORING_PATIENCE = 3  # and so may storing: what is given up may be stored all the same


class LabelStudio(Connection):
    """Label Studio's API; where it is, tokens and errors are `Connection`'s.

    Every method raises `Unreachable`, `Unauthorized`, or `LabelStudioError` with the answer's `status`; none of them
    ever holds a token or a query.
    """

    def whoami(self) -> dict[str, Any]:
        """The token's user: `id`, `email` ..."""
        return dict(self._get("/api/current-user/whoami"))

    def is_away(self) -> bool:
        """Whether it, asked now, gives no answer or refuses the token; False where no address is known.

        What fails while this is so failed because of it, and is worth another try.
        """
        if not self.configured:
            return False
        try:
            self.whoami()
        except LabelStudioError as error:
            return is_outage(error)
        return False

    def version(self) -> str:
        """Label Studio's release, e.g. `1.23.2`."""
        return str(dict(self._get("/api/version")).get("release", ""))

    # -- projects ------------------------------------------------------------------------------------------------
    def project(self, project_id: int) -> ProjectInfo:
        """One project.

        Raises:
            LabelStudioError: with status 404 if there is none (any more).
        """
        return _project(self._get(f"/api/projects/{project_id}/"))

    def project_of(self, key: str) -> ProjectInfo:
        """One project by its key.

        Raises:
            NotFound: if there is none (any more), or another one has its number now.
        """
        number = project_number(key)
        try:
            info = self.project(number)
        except LabelStudioError as error:
            if error.status != 404:
                raise
            self.whoami()  # raises where it is a proxy that knows no page, as while Label Studio starts
            raise NotFound(f"project {key} is no longer in Label Studio.") from error
        if info.key != key:
            raise NotFound(f"project {key} is no longer what Label Studio has under number {number}.")
        return info

    def projects(self) -> list[ProjectInfo]:
        """All projects that the token's user may see, by id."""
        found: list[ProjectInfo] = []
        page = 1
        while True:
            answer = dict(self._get("/api/projects/", {"page": page, "page_size": _PAGE}))
            found += [_project(item) for item in answer.get("results", [])]
            if not answer.get("next"):
                return sorted(found, key=lambda project: project.id)
            page += 1

    def signs(self, project: ProjectInfo) -> str:
        """Cheap figures (one request, for one task) that differ from last time where an export pays.

        The counts show annotations made, deleted, skipped and turned into drafts, and deleted tasks. An edited
        annotation changes no count, but the `updated_at` of its task. Storing or deleting a prediction changes that as
        well, so only tasks with an annotation are looked at.
        """
        annotated = [
            _filter("total_annotations", "greater", 0),
            _filter("cancelled_annotations", "greater", 0),
        ]
        query = {"filters": {"conjunction": "or", "items": annotated}, "ordering": ["-tasks:updated_at"]}
        last = [f"{task['id']}@{task.get('updated_at')}" for task in self._listed(project.id, query, 1)]
        counts = (
            project.task_number,
            project.num_tasks_with_annotations,
            project.total_annotations_number,
            project.skipped_annotations_number,
            project.ground_truth_number,
        )
        return " ".join([*map(str, counts), *last])

    def show_version(self, project_id: int, version: str) -> None:
        """Set the project's model version: whose predictions its label stream and its sorting by score go by.

        Args:
            project_id: the project.
            version: that of stored predictions, which are shown then, and no backend is asked; a backend's title, which
                is asked then; or "", so that the stream shows none.

        Raises:
            LabelStudioError: with status 400 if there is no prediction of that version and no backend of that title.
        """
        self.ask("PATCH", f"/api/projects/{project_id}/", body={"model_version": version})

    # -- tasks ---------------------------------------------------------------------------------------------------
    def export(self, project_id: int, tasks: Collection[int] | None = None) -> list[dict[str, Any]]:
        """Annotated tasks with their annotations, skipped ones among them; `predictions` are ids only.

        An exported annotation has `id task project completed_by result was_cancelled ground_truth created_at updated_at
        lead_time parent_prediction updated_by last_action bulk_created unique_id import_id draft_created_at` and more.
        Made in bulk from predictions: `bulk_created` is false all the same, `updated_by` and `lead_time` are null.
        `parent_prediction` turns null, without any change of `updated_at`, once that prediction is deleted.
        Asking does not make Label Studio ask for predictions.

        Args:
            project_id: the project.
            tasks: only these tasks; one that is missing from the answer has no annotation (any more).
        """
        path, kind = f"/api/projects/{project_id}/export", {"exportType": "JSON"}
        patience = self._timeout * _EXPORT_PATIENCE
        if tasks is None:
            return list(self._get(path, kind, timeout=patience))
        found: list[dict[str, Any]] = []
        for ids in _parts(tasks):
            found += self._get(path, {**kind, "ids[]": ids}, timeout=patience)
        return found

    def task(self, task_id: int) -> dict[str, Any]:
        """One task with `annotations`, `predictions` and `drafts` in whole.

        Label Studio asks its ML backend, that is us, for a prediction first where the task has none; `export` with the
        task's id does not. `completed_by` is a dict here and a number in the export.
        """
        return dict(self._get(f"/api/tasks/{task_id}/", {"resolve_uri": "false"}))

    def unlabeled_tasks(
        self, project_id: int, *, limit: int | None = None, after: int = 0, begun: bool = False
    ) -> list[dict[str, Any]]:
        """Tasks without any annotation (a skip counts as one), those first that the label stream shows first.

        The stream goes by id where the project's sampling is sequential; where it is random there is no order to know.
        Tasks come without predictions and annotations, with `id data meta total_predictions updated_at` and more,
        addresses in `data` as they were imported. Pages are told by the last id, so tasks that are annotated meanwhile
        cannot push others out of sight.

        Args:
            project_id: the project.
            limit: at most so many; None for all.
            after: only tasks with a greater id.
            begun: also those with annotations that need more of them, and skipped ones that come again: all that the
                label stream may still show.
        """
        found: list[dict[str, Any]] = []
        empty = [_filter("total_annotations", "equal", 0), _filter("cancelled_annotations", "equal", 0)]
        if begun:
            empty = [{**_filter("is_labeled", "equal", False), "type": "Boolean"}]
        last = after
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            wanted = [*empty, _filter("id", "greater", last)]
            query = {"filters": {"conjunction": "and", "items": wanted}, "ordering": ["tasks:id"]}
            page = self._listed(project_id, query, size)
            found += page
            if len(page) < size:
                break
            last = int(page[-1]["id"])
        return found

    def tasks(self, project_id: int, ids: Collection[int]) -> list[dict[str, Any]]:
        """The tasks with these ids, as `unlabeled_tasks` gives them; missing ones are left out.

        Unlike `task`, it does not make Label Studio ask its ML backend first.
        """
        found: list[dict[str, Any]] = []
        for some in _parts(ids):
            chosen = {"selectedItems": {"all": False, "included": some}, "ordering": ["tasks:id"]}
            found += self._listed(project_id, chosen, len(some))
        return found

    def task_of(self, key: str, task: int) -> dict[str, Any] | None:
        """A task of a project by its key, as `tasks` gives it; None where the project has none of this number.

        Raises:
            NotFound: as `project_of`.
        """
        return next(iter(self.tasks(self.project_of(key).id, [task])), None)

    def any_task(self, project_id: int) -> dict[str, Any] | None:
        """The task with the lowest id, annotated or not, as `unlabeled_tasks` gives it; None where there is none."""
        return next(iter(self._listed(project_id, {"ordering": ["tasks:id"]}, 1)), None)

    # -- predictions ---------------------------------------------------------------------------------------------
    def create_prediction(
        self, task_id: int, result: Sequence[Mapping[str, Any]], score: float, model_version: str
    ) -> int:
        """Store a prediction; returns its id. No event tells the backend of it.

        Raises:
            LabelStudioError: with status 400 if the task is gone (any more).
        """
        body = {"task": task_id, "result": list(result), "score": score, "model_version": model_version}
        patience = self._timeout * _STORING_PATIENCE
        return int(self.ask("POST", "/api/predictions/", body=body, timeout=patience)["id"])

    def replace_prediction(
        self,
        prediction_id: int,
        task_id: int,
        result: Sequence[Mapping[str, Any]],
        score: float,
        model_version: str,
    ) -> None:
        """Put another prediction of the same task in place of a stored one, under the same id.

        Whoever has the old one open can go on: what begins with a prediction that is deleted meanwhile is refused when it
        is submitted ("Invalid pk", HTTP 400).

        Raises:
            LabelStudioError: with status 404 if it is gone, 400 if its task is.
        """
        body = {"task": task_id, "result": list(result), "score": score, "model_version": model_version}
        patience = self._timeout * _STORING_PATIENCE
        self.ask("PATCH", f"/api/predictions/{prediction_id}/", body=body, timeout=patience)

    def delete_predictions(self, ids: Iterable[int]) -> set[int]:
        """Delete predictions one by one; returns those that are gone now (the missing ones too).

        Annotations made from one lose their `parent_prediction`, and those that somebody is making cannot be submitted.
        A refused one is left and not returned.
        """
        gone: set[int] = set()
        for prediction in ids:
            try:
                self.ask("DELETE", f"/api/predictions/{prediction}/")
            except LabelStudioError as error:
                if isinstance(error, Unreachable) or error.status == 401:
                    raise
                if error.status != 404:
                    continue
            gone.add(prediction)
        return gone

    def predictions(self, task_id: int) -> list[dict[str, Any]]:
        """A task's predictions in whole: `id task project model_version score result created_at` and more."""
        return list(self._get("/api/predictions/", {"task": task_id}))

    # -- backends and webhooks -----------------------------------------------------------------------------------
    def backends(self, project_id: int) -> list[dict[str, Any]]:
        """ML backends connected to a project: `id url title state is_interactive` and more."""
        return list(self._get("/api/ml/", {"project": project_id}))

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        """A project's webhooks: `id url headers is_active actions` and more. `headers` may hold passwords."""
        return list(self._get("/api/webhooks/", {"project": project_id}))

    def patch_webhook(self, webhook_id: int, *, headers: Mapping[str, str], url: str | None = None) -> None:
        """Set what Label Studio sends along with a webhook's events."""
        body: dict[str, Any] = {"headers": dict(headers), **({} if url is None else {"url": url})}
        self.ask("PATCH", f"/api/webhooks/{webhook_id}/", body=body)

    def authorize_webhooks(self, project_id: int, user: str, authorization: str) -> int:
        """Give the webhooks of our own backends the `Authorization` header that Label Studio leaves out of events.

        Ours are the backends connected with our user name; a webhook that has the header already is left alone.

        Returns:
            How many webhooks were changed.
        """
        ours = {
            f"{str(row.get('url')).rstrip('/')}/webhook"
            for row in self.backends(project_id)
            if row.get("basic_auth_user") == user
        }
        changed = 0
        for webhook in self.webhooks(project_id):
            headers = dict(webhook.get("headers") or {})
            if webhook.get("url") in ours and headers.get("Authorization") != authorization:
                headers["Authorization"] = authorization
                self.patch_webhook(webhook["id"], url=str(webhook["url"]), headers=headers)
                changed += 1
        return changed

    # -- parts of requests ---------------------------------------------------------------------------------------
    def _listed(self, project_id: int, query: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
        asked = {"project": project_id, "page": 1, "page_size": size, "resolve_uri": "false"}
        answer = self._get("/api/tasks/", {**asked, "query": json.dumps(query, separators=(",", ":"))})
        return list(answer["tasks"])

    def _get(self, path: str, query: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        return self.ask("GET", path, query=query, timeout=timeout)


def _parts(ids: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), _IDS_AT_ONCE):
        yield ordered[start : start + _IDS_AT_ONCE]


def _filter(column: str, operator: str, value: int) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": "Number", "value": value}


def _project(answer: Any) -> ProjectInfo:
    try:
        return ProjectInfo.model_validate(answer)
    except ValidationError as error:
        fields = ", ".join(sorted({str(item["loc"][0]) for item in error.errors() if item["loc"]}))
        raise LabelStudioError(f"Label Studio described a project in an unknown way ({fields}).") from None
