"""Figures: kept IoU over time, what ten more masks would bring, what can be accepted in bulk, hours saved."""

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import Field

from backend.admin import acceptance, answers, outlook
from backend.admin.acceptance import AcceptVerdict, Submission
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


class Acceptance(Answer):
    """From which score on predictions can be accepted in bulk."""

    count: int = Field(
        description="Submissions of predicted tasks whose lead time is known: somebody looked. The last 300."
    )
    share: float = Field(description="Share of the predictions that is to be kept unchanged, 0 to 1.")
    threshold: float | None = Field(
        description="Lowest score from which on so many are, 0 to 1; null where there is none, like the three that follow."
    )
    above: int | None = Field(description="Submissions with at least this score.")
    unchanged: int | None = Field(
        description="How many of these were kept unchanged: a kept IoU of 0.99 or more for each label."
    )
    low: float | None = Field(description="Share that is kept unchanged at least, with 95 % confidence.")
    verdict: AcceptVerdict = Field(
        description="`found`; `none`: not even those with the highest scores are; `too early`: fewer than 61 submissions."
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
    acceptance: Acceptance = Field(description="What can be accepted in bulk.")
    saving: Saving = Field(description="Time saved.")


def routes(backend: Backend, _jobs: Jobs) -> APIRouter:
    """Routes about figures."""
    router = APIRouter(prefix="/projects/{key}", tags=["projects"], responses=problems(404, 422))

    @router.get("/figures", summary="Show how well predictions serve")
    def show_figures(key: Key) -> Figures:
        """Kept IoU over time, what ten more masks of a label are expected to bring, hours saved."""
        project = answers.project_key(backend, key)
        targets = answers.take(backend, project).config.targets
        kept, approvals = backend.store.kept(project), backend.store.approvals(project)
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
            acceptance=_acceptance(backend, kept, approvals),
            saving=_saving(approvals),
        )

    return router


def _kept(row: KeptIoU) -> Kept:
    return Kept(task=row.task, target=row.target, revision=row.revision, iou=row.iou, at=row.at)


def _acceptance(backend: Backend, kept: list[KeptIoU], approvals: list[Approval]) -> Acceptance:
    """Of what nobody looked at, nothing is told: it was accepted unchanged whatever it was."""
    looked_at = {approval.annotation for approval in approvals if approval.lead_time}
    by_annotation: dict[int, list[KeptIoU]] = {}
    for row in kept:
        if row.annotation in looked_at:
            by_annotation.setdefault(row.annotation, []).append(row)
    submissions = []
    for rows in list(by_annotation.values())[-acceptance.NEWEST :]:
        records = backend.store.predictions(rows[0].project, rows[0].task)
        score = next((record.score for record in records if record.revision == rows[0].revision), None)
        if score is not None:
            unchanged = all(row.iou >= acceptance.UNCHANGED for row in rows)
            submissions.append(Submission(score, unchanged))
    return Acceptance(share=acceptance.SHARE, **asdict(acceptance.accept_from(submissions)))


def _saving(approvals: list[Approval]) -> Saving:
    known = [(approval.kind, approval.lead_time) for approval in approvals if approval.lead_time]
    without = [seconds for kind, seconds in known if kind == "drawn"]
    with_ = [seconds for kind, seconds in known if kind != "drawn"]
    return Saving(**asdict(outlook.saved(without, with_)))
