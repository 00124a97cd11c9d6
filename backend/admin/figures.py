"""Figures: kept IoU over time, what ten more masks would bring, hours saved."""

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import Field

from backend.admin import answers, outlook
from backend.admin.answers import Answer, Key, problems
from backend.admin.outlook import Verdict
from backend.jobs import Jobs
from backend.store import Approval, KeptIoU
from backend.wiring import Backend

NEWEST = 1000
"""Kept IoUs that are listed at most, the last ones."""


class Kept(Answer):
    """IoU between what was predicted for a task and what the annotator submitted, for one target."""

    task: int = Field(description="Label Studio's number of the task.")
    target: str = Field(description="Target id, `control/image/label`.")
    revision: str = Field(description="The `model_version` of the prediction.")
    iou: float = Field(description="0 to 1.")
    at: float = Field(description="Unix seconds.")


class Outlook(Answer):
    """What ten more masks of a label are expected to bring."""

    target: str = Field(description="Target id, `control/image/label`.")
    label: str = Field(description="The label.")
    count: int = Field(description="Submissions that the trend is told from.")
    level: float | None = Field(
        description="Kept IoU now by the trend, 0 to 1; null where it is too early, like the three that follow."
    )
    gain: float | None = Field(description="By how much ten more masks are expected to raise it.")
    low: float | None = Field(description="Two standard errors below that.")
    high: float | None = Field(description="Two standard errors above it.")
    verdict: Verdict = Field(
        description="`stop`: even the upper bound is below 0.01; `go on`: the lower bound is not; `unclear`: neither; "
        "`too early`: fewer than 12 submissions."
    )


class Saving(Answer):
    """Time that predictions saved, by the lead times of annotations."""

    without: int = Field(description="Annotations drawn from nothing whose lead time is known.")
    with_: int = Field(description="Those that began with a prediction.")
    median_without: float | None = Field(description="Seconds; null where there are none.")
    median_with: float | None = Field(description="Seconds; null where there are none.")
    hours: float | None = Field(
        description="Saved so far, by the medians; null with fewer than five of either kind, like the two that follow."
    )
    low: float | None = Field(description="Hours by the quartiles that tell least for predictions.")
    high: float | None = Field(description="Hours by those that tell most.")


class Figures(Answer):
    """How well predictions serve a project's annotators."""

    kept: list[Kept] = Field(description="The last 1000 kept IoUs, oldest first.")
    kept_count: int = Field(description="How many there are in all.")
    outlooks: list[Outlook] = Field(description="For each label, in the labeling config's order.")
    saving: Saving = Field(description="Time saved.")


def routes(backend: Backend, _jobs: Jobs) -> APIRouter:
    """Routes about figures."""
    router = APIRouter(prefix="/projects/{key}", tags=["projects"], responses=problems(404, 422))

    @router.get("/figures", summary="Show how well predictions serve")
    def show_figures(key: Key) -> Figures:
        """Kept IoU over time, what ten more masks of a label are expected to bring, hours saved."""
        project = answers.project_key(backend, key)
        targets = answers.take(backend, project).config.targets
        kept = backend.store.kept(project)
        return Figures(
            kept=[_kept(row) for row in kept[-NEWEST:]],
            kept_count=len(kept),
            outlooks=[
                Outlook(
                    target=target.id,
                    label=target.label,
                    **asdict(outlook.look_ahead([row.iou for row in kept if row.target == target.id])),
                )
                for target in targets
            ],
            saving=_saving(backend.store.approvals(project)),
        )

    return router


def _kept(row: KeptIoU) -> Kept:
    return Kept(task=row.task, target=row.target, revision=row.revision, iou=row.iou, at=row.at)


def _saving(approvals: list[Approval]) -> Saving:
    known = [(approval.kind, approval.lead_time) for approval in approvals if approval.lead_time]
    without = [seconds for kind, seconds in known if kind == "drawn"]
    with_ = [seconds for kind, seconds in known if kind != "drawn"]
    return Saving(**asdict(outlook.saved(without, with_)))
