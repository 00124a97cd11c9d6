"""What all pages of a project hold."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Response

from backend.admin.examples import Dropped, Example
from backend.admin.projects import Project
from backend.page.access import Visitor
from backend.page.offers import Offers
from backend.page.rendering import render
from backend.protocol import project_number
from backend.wiring import Backend

DONE = {
    "dropped": "The example is out of use. The revision has moved, so Label Studio asks for predictions again.",
    "restored": "The example is being read again from Label Studio; it is back when that is done. Reload to see.",
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
        """A page of a project; `names`, what its labels are called, are those of `names_of` where none are given."""
        number = project_number(project.project)
        lost = self._offers.lost_labels(project.project)
        return render(
            template,
            visitor=visitor,
            project=project,
            number=number,
            name=f"{project.title} (project {number})" if project.title else f"project {number}",
            lost=lost,
            lost_names=_told_apart({one.target: one.label for one in lost}),
            studio=self._studio(project),
            done=DONE.get(done, ""),
            **{"names": names_of(project), **values},
        )

    def _studio(self, project: Project) -> str:
        """Where a project's tasks are in Label Studio; "" where its address is unknown."""
        label_studio = self._backend.label_studio
        if not label_studio.configured:
            return ""
        return f"{label_studio.origin}/projects/{project_number(project.project)}/data"


def names_of(project: Project, taught: Iterable[Example | Dropped] = ()) -> dict[str, str]:
    """What labels are called, by target id: those of the labeling config, then those that it has no longer.

    Args:
        project: whose labels.
        taught: examples, in use or taken out; the labeling config may have lost their labels.
    """
    names = _told_apart({target.target: target.label for target in project.targets})
    return names | {
        one.target: f"{one.target} (not in the labeling config)" for one in taught if one.target not in names
    }


def _told_apart(labels: Mapping[str, str]) -> dict[str, str]:
    """Each target's label, or its target id where several have that label."""
    count = Counter(labels.values())
    return {target: label if count[label] == 1 else target for target, label in labels.items()}
