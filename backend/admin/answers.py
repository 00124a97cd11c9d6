"""What all subjects of the admin API share: how a project is named, and what an error says."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from backend import revision
from backend.errors import NotFound, Refused
from backend.revision import Snapshot
from backend.wiring import Backend

MOST = 2**53
"""Largest number that a path may hold: JavaScript's, and far below SQLite's."""

READ_AGAIN = "Annotations are read from Label Studio again"
"""What putting back and answering need Label Studio for."""

Key = Annotated[
    str,
    Path(
        description="The project: its key (`number.created`, as `/api/projects` lists it), or Label Studio's number of "
        "it; of several projects that had one number, the newest is meant.",
        examples=["1", "1.1767225601"],
    ),
]
Tuning = Annotated[int, Path(description="The tuning's `id`.", ge=1, le=MOST)]
Version = Annotated[int, Path(description="The prompt's `number`.", ge=1, le=MOST)]
Task = Annotated[int, Path(description="Label Studio's number of the task.", ge=1, le=MOST)]
TargetId = Annotated[str, Field(max_length=1000)]
"""A limit also makes pydantic look at the letters: half a surrogate pair is no text, and cannot be answered."""

_MEANINGS = {
    401: "`ADMIN_TOKEN` is set, and the request does not carry it.",
    403: "No `ADMIN_TOKEN` is set and the request is not from or for this machine; or it would change something and "
    "comes from a web page of another origin.",
    404: "There is no such project, tuning or prompt.",
    409: "Well-formed, but not possible now; `detail` says why.",
    413: "The file is larger than a prompt can be.",
    422: "Something in the request cannot be understood; `detail` names it.",
    503: "The store cannot be used now.",
}


class Answer(BaseModel):
    """Base of all answers: what they hold is fixed once made."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Wish(BaseModel):
    """Base of what people ask for: nothing in it is passed over."""

    model_config = ConfigDict(extra="forbid")


class Problem(Answer):
    """Why something was not done."""

    detail: str = Field(
        description="One sentence for people: what is wrong, and the remedy where there is one."
    )


def problems(*statuses: int, meanings: Mapping[int, str] = _MEANINGS) -> dict[int | str, dict[str, Any]]:
    """Error responses of a route, for its documentation; `meanings` are those of its kind of routes."""
    return {status: {"model": Problem, "description": meanings[status]} for status in statuses}


def project_key(backend: Backend, named: str) -> str:
    """The key of the project that a path names.

    Raises:
        NotFound: if it has never been seen.
    """
    key = revision.project_of(backend.store, named)
    if key is None:
        raise NotFound(f"There is no project '{named}'; see /api/projects.")
    return key


def needs_label_studio(backend: Backend, what_for: str) -> None:
    """See that Label Studio can be asked for what a route is to do.

    Raises:
        Refused: if it is not set.
    """
    if not backend.label_studio.configured:
        raise Refused(f"{what_for}: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.")


def take(backend: Backend, key: str) -> Snapshot:
    """The project's snapshot now."""
    return revision.take(backend.store, key, backend.checkpoint)
