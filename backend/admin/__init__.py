"""Admin API: what the backend knows of each project, and how people start, stop, judge and take back what it does."""

from collections.abc import Iterable

from fastapi import APIRouter, Depends

from backend.admin import examples, figures, influence, labels, projects, prompts, shadows, tunings, why
from backend.admin.answers import problems
from backend.admin.guard import guard
from backend.jobs import Jobs
from backend.wiring import Backend

_SUBJECTS = (projects, why, figures, examples, influence, labels, tunings, prompts, shadows)

TAGS = [
    {
        "name": "projects",
        "description": "What is known of each project, and what was predicted for its tasks.",
    },
    {
        "name": "examples",
        "description": "Approved masks that teach, the alarm that names the harmful ones, and what becomes of them.",
    },
    {"name": "tunings", "description": "Start, watch and stop the learning of prompts."},
    {
        "name": "prompts",
        "description": "Versions of learned prompts: judge, activate, take back, carry elsewhere.",
    },
]
"""The groups of the documented routes."""

DESCRIPTION = """
Masks that annotators approve in Label Studio become the examples with which SegGPT pre-annotates the next task.

The routes below `/api` are for people and scripts. They want `Authorization: Bearer <ADMIN_TOKEN>`; where no
`ADMIN_TOKEN` is set, they answer to programs on the backend's own machine only. An error's body is one sentence in
`detail`, which names what is wrong and what to do. Times are Unix seconds, IoUs go from 0 to 1, and a *target* is one
label of one control on one image of the labeling config, written `control/image/label`. The other routes are Label
Studio's.
"""
"""What `/docs` says before all routes, Markdown."""


def subjects(backend: Backend, jobs: Jobs) -> list[APIRouter]:
    """What the API is about, subject by subject: the routes that `router` guards, and whose functions the page calls."""
    return [subject.routes(backend, jobs) for subject in _SUBJECTS]


def router(backend: Backend, offered: Iterable[APIRouter]) -> APIRouter:
    """Routes below `/api`: by bearer token where `ADMIN_TOKEN` is set, else from this machine only."""
    routes = APIRouter(
        prefix="/api",
        dependencies=[Depends(guard(backend))],
        responses=problems(401, 403, 503),
        generate_unique_id_function=lambda route: route.name,  # what generated clients call their functions
    )
    for subject in offered:
        routes.include_router(subject)
    return routes
