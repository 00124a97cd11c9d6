"""What all pages of a project hold."""

from collections.abc import Sequence
from typing import Any

from fastapi import Response

from backend.admin.examples import Example
from backend.admin.projects import Project
from backend.page.access import Visitor
from backend.page.offers import Offers
from backend.page.rendering import render
from backend.protocol import project_number
from backend.wiring import Backend

DONE = {
    "dropped": "The example is out of use. The revision has moved, so Label Studio asks for predictions again.",
    "restored": "The example is being read again from Label Studio; it is back in some seconds.",
    "measuring": "The measuring is queued; it runs when nothing else waits.",
    "activated": "The prompt is in use from the next prediction on.",
    "rolled-back": "The prompt is out of use.",
    "tuning": "The tuning is queued.",
    "stopping": "The tuning stops after its current update; it can go on later.",
    "resumed": "The tuning is queued again.",
    "pinned": "The example is pinned: it stays in its pool, and is used before others from the next prediction on.",
    "unpinned": "The example is as any other from the next prediction on.",
    "previewing": "The preview is queued: its figures are worked out when nothing else waits.",
    "put-away": "The preview is put away; nothing was taken out of use.",
    "taken-out": "All of them are out of use. The revision has moved, so Label Studio asks for predictions again.",
    "taken-back": "They are being read again from Label Studio, which takes some time; reload to see how far it is.",
    "answered": "The annotations are being read by the answer, which takes some time; reload to see how far it is.",
    "asked-again": "The answer is taken back. The annotations are being read again; reload to see how far it is.",
    "shadowing": "The shadow predicts from the next submission on; nobody sees it.",
    "shadow-stopped": "The shadow has ended; what it has compared stays.",
    "refreshing": "The pass over the tasks is queued.",
}
"""What was done, by the word that the address carries after it."""


class Pages:
    """What all pages of a project hold."""

    def __init__(self, backend: Backend, offers: Offers) -> None:
        self._backend = backend
        self._offers = offers

    def render(self, template: str, visitor: Visitor, project: Project, done: str, **values: Any) -> Response:
        """A page of a project."""
        number = project_number(project.project)
        return render(
            template,
            visitor=visitor,
            project=project,
            number=number,
            name=f"{project.title} (project {number})" if project.title else f"project {number}",
            lost=self._offers.lost_labels(project.project),
            studio=self._studio(project),
            done=DONE.get(done, ""),
            **values,
        )

    def _studio(self, project: Project) -> str:
        """Where a project's tasks are in Label Studio; "" where its address is unknown."""
        label_studio = self._backend.label_studio
        if not label_studio.configured:
            return ""
        return f"{label_studio.origin}/projects/{project_number(project.project)}/data"


def names_of(project: Project, examples: Sequence[Example]) -> dict[str, str]:
    """Labels by target id: those of the labeling config, then those that it has no longer."""
    names = {target.target: target.label for target in project.targets}
    return names | {
        one.target: f"{one.target} (not in the labeling config)"
        for one in examples
        if one.target not in names
    }
