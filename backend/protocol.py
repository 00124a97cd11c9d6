"""Label Studio's wire format towards an ML backend, as pydantic models; knows no store and no masks.

Measured against Label Studio 1.23: payloads lie by omission, so nothing but the outermost shape is required here.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, field_validator

# What an event may keep: everything else (invite tokens, storage passwords) is never written anywhere.
_PROJECT_FIELDS = ("id", "created_at", "label_config", "title")
_PROJECT_KEY = re.compile(r"[0-9]{1,19}\.[0-9]{1,19}")
SUGGESTED = "seggpt"
"""The key of a region's `meta` under which a smart tool's suggestion says what it came of."""

BEHIND = "seggpt_context"
"""The same of a prediction's region."""

_MOST_ID = 2**63 - 1  # what a database keeps


def is_text(text: str) -> bool:
    """Whether it can be kept and answered with: JSON can hold half of a surrogate pair, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(text: str) -> str:
    if not is_text(text):
        raise ValueError("it holds half a character (a lone surrogate)")
    return text


_Text = Annotated[str, AfterValidator(_whole)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore")


class SetupRequest(_Wire):
    """`POST /setup`: sent before every look at the backend."""

    project: _Text | None = None
    label_config: _Text = Field("", alias="schema")
    hostname: _Text = ""
    access_token: _Text = Field("", repr=False)

    @field_validator("project", mode="before")
    @classmethod
    def _as_text(cls, project: object) -> object:
        return str(project) if isinstance(project, int | float) else project

    @field_validator("label_config", "hostname", "access_token", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return "" if value is None else value


class PredictRequest(_Wire):
    """`POST /predict`: all selected tasks in one request, or one task with an interaction in `params.context`."""

    tasks: Annotated[list[dict[str, Any]], FailFast()]  # else a list of a million mistakes is told one by one
    project: _Text | None = None
    label_config: _Text | None = None
    params: dict[str, Any] | None = None

    @field_validator("project", mode="before")
    @classmethod
    def _as_text(cls, project: object) -> object:
        return str(project) if isinstance(project, int | float) else project

    @property
    def interaction(self) -> list[dict[str, Any]]:
        """Regions of an interactive request; empty for an ordinary one."""
        context = (self.params or {}).get("context")
        result = context.get("result") if isinstance(context, Mapping) else None
        return [region for region in result if isinstance(region, dict)] if isinstance(result, list) else []


class PredictResponse(_Wire):
    """Answer to `/predict`: as many results as tasks; `[]` says "I do not know yet"."""

    model_config = ConfigDict(protected_namespaces=())

    results: list[Any]
    model_version: str


class SetupResponse(_Wire):
    """Answer to `/setup`."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str


def project_key(project: Mapping[str, Any] | None) -> str | None:
    """Label Studio's name of a project towards a backend, from a webhook's `project`.

    Returns:
        `"{id}.{created_at in whole Unix seconds}"`; `"{id}"` where the time is missing; None without an id.
    """
    if not isinstance(project, Mapping) or not is_id(project.get("id")):
        return None
    created = parse_time(project.get("created_at"))
    return f"{project['id']}" if created is None else f"{project['id']}.{int(created)}"


def is_project_key(text: object) -> bool:
    """Whether `text` is a project's whole key: any other must not be stored."""
    return isinstance(text, str) and _PROJECT_KEY.fullmatch(text) is not None


def is_id(value: object) -> bool:
    """Whether `value` can be an id of Label Studio: JSON's true and false are numbers to Python, and of any size."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST_ID


def project_number(key: str) -> int:
    """Label Studio's number of a project, from its key."""
    return int(key.partition(".")[0])


def parse_time(text: object) -> float | None:
    """ISO 8601 as Label Studio writes it, to Unix seconds; None where it is no such text."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def kept_of_event(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a webhook's payload that may be stored: annotations, tasks, ids, and four fields of the project."""
    kept: dict[str, Any] = {
        name: payload[name]
        for name in ("annotation", "annotations", "task", "tasks")
        if payload.get(name) is not None
    }
    project = payload.get("project")
    if isinstance(project, Mapping):
        kept["project"] = {name: project[name] for name in _PROJECT_FIELDS if name in project}
    return kept


def as_list(value: object) -> list[dict[str, Any]]:
    """`value` where a payload holds one object, a list of objects or nothing."""
    if isinstance(value, Mapping):
        return [dict(value)]
    if isinstance(value, list):
        return [dict(item) for item in value if isinstance(item, Mapping)]
    return []


def ids_of(value: object) -> list[int]:
    """Ids of the objects in `value` (one, a list, or a list of bare ids)."""
    bare = [item for item in value if is_id(item)] if isinstance(value, list) else []
    return bare + [item["id"] for item in as_list(value) if is_id(item.get("id"))]
