"""Examples: the approved masks in the pools, and the alarm about those that harm the others."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from backend import dropped, pins
from backend.admin import answers
from backend.admin.answers import Answer, Key, problems
from backend.findings import Finding
from backend.jobs import Jobs, ask_again
from backend.label_config import Target
from backend.store import ExampleInfo
from backend.store.records import ApprovalKind
from backend.wiring import Backend

ExampleKey = Annotated[str, Path(description="The example's `key`.", min_length=1, max_length=64)]


class Example(Answer):
    """One approved mask that teaches, and what was measured of it."""

    key: str = Field(description="Hash of content and origin.")
    target: str = Field(description="Target id, `control/image/label`.")
    label: str | None = Field(
        description="The target's label; null where the labeling config has it no longer."
    )
    task: int = Field(description="Label Studio's number of the task.")
    annotation: int = Field(description="Label Studio's number of the annotation.")
    kind: ApprovalKind = Field(
        description="`drawn` from nothing, `corrected` from a prediction, or `accepted` unchanged."
    )
    annotator: int | None = Field(description="Label Studio's number of the user; null where unknown.")
    at: str = Field(description="When it was submitted, as Label Studio writes it (ISO 8601).")
    area: float = Field(description="Share of the image that the mask covers, 0 to 1.")
    leave_one_out_iou: float | None = Field(
        description="IoU, 0 to 1, that ranks it for contexts; null: not measured."
    )
    found: float | None = Field(
        description="Mean IoU, 0 to 1, with which each of the others alone finds its mask; null where not measured, "
        "like the four that follow."
    )
    finds: float | None = Field(description="Mean IoU, 0 to 1, with which it alone finds the others' masks.")
    agrees: float | None = Field(
        description="Mean IoU, 0 to 1, between what it finds on the others' pictures and what the rest finds there."
    )
    suspicious: bool | None = Field(description="Whether its task should be looked at again.")
    reason: str | None = Field(description="Why, a sentence; empty where it is not suspicious.")
    pinned: bool = Field(description="Whether it stays in a full pool, and goes into contexts before others.")


class Pinned(Answer):
    """Whether an example is pinned now."""

    key: str = Field(description="Of the example.")
    pinned: bool = Field(description="Whether it stays in a full pool, and goes into contexts before others.")


class Suspect(Answer):
    """An approved mask that harms the others: its task should be looked at again."""

    key: str = Field(description="Of the example.")
    target: str = Field(description="Target id, `control/image/label`.")
    label: str | None = Field(
        description="The target's label; null where the labeling config has it no longer."
    )
    task: int = Field(description="Label Studio's number of the task to recheck.")
    annotation: int = Field(description="Label Studio's number of the annotation.")
    reason: str = Field(description="Why, a sentence.")
    found: float = Field(description="Mean IoU, 0 to 1, with which each of the others alone finds its mask.")
    finds: float = Field(description="Mean IoU, 0 to 1, with which it alone finds the others' masks.")
    agrees: float = Field(
        description="Mean IoU, 0 to 1, between what it finds on the others' pictures and what the rest finds there."
    )


class Alarm(Answer):
    """What was measured of a project's examples last."""

    measured_at: float | None = Field(description="Unix seconds; null where it has never been measured.")
    due: bool = Field(description="Whether the pools hold other examples now than those that were measured.")
    suspicious: list[Suspect] = Field(description="Those that are still in the pools, the worst first.")


class Measuring(Answer):
    """That a measuring is queued."""

    due: bool = Field(
        description="Whether there is anything new to measure; where not, the job ends at once."
    )


class Dropped(Answer):
    """An example that somebody took out of use."""

    key: str = Field(description="Of the example.")
    target: str = Field(description="Target id, `control/image/label`.")
    task: int = Field(description="Label Studio's number of the task.")
    annotation: int = Field(description="Label Studio's number of the annotation.")
    at: float = Field(description="Unix seconds.")
    act: str = Field(description="What it was taken out by together with others; empty where it was alone.")
    because: str = Field(description="What that act was, for people.")
    returning: bool = Field(
        description="Whether it was put back, and its annotation is still to be read: soon, or when its image can be."
    )


def routes(backend: Backend, jobs: Jobs) -> APIRouter:
    """Routes about examples."""
    router = APIRouter(prefix="/projects/{key}", tags=["examples"], responses=problems(404, 422))

    @router.get("/examples", summary="List examples")
    def list_examples(key: Key) -> list[Example]:
        """Examples in the pools, oldest first, with what the alarm measured of each."""
        project = answers.project_key(backend, key)
        findings = backend.alarm.findings(project).by_key
        return [_example(info, target, findings.get(info.key)) for info, target in _pool(backend, project)]

    @router.get("/examples/dropped", summary="List what was taken out of use")
    def list_dropped(key: Key) -> list[Dropped]:
        """Examples that can be put back, and those that return, the last first."""
        project = answers.project_key(backend, key)
        gone = dropped.listed(backend.store, project, backend.store.pool(project))
        return [shown_dropped(one) for one in gone]

    @router.post("/examples/{example}/drop", summary="Take an example out of use", responses=problems(409))
    def drop_example(key: Key, example: ExampleKey) -> Dropped:
        """Predict without it from the next request on; its annotation stays in Label Studio, and the revision moves."""
        project = answers.project_key(backend, key)
        (gone,) = dropped.drop(backend.store, project, [example])
        ask_again(backend, jobs, project)
        return shown_dropped(gone)

    @router.post(
        "/examples/{example}/restore", status_code=202, summary="Put an example back", responses=problems(409)
    )
    def restore_example(key: Key, example: ExampleKey) -> Dropped:
        """Read its annotation again from Label Studio, which takes the worker some seconds.

        Until it has been read, which may be long where its image cannot be had, it is listed as one that returns.
        """
        project = answers.project_key(backend, key)
        answers.needs_label_studio(backend, answers.READ_AGAIN)
        back = dropped.put_back(backend.store, project, example)
        jobs.reconcile(project)
        return shown_dropped(back)

    @router.post("/examples/{example}/pin", summary="Pin an example", responses=problems(409))
    def pin_example(key: Key, example: ExampleKey) -> Pinned:
        """Keep it in its pool however full that gets, and use it before others from the next request on.

        Half of a pool can be pinned. Of a context's places pinned examples have half before all others.
        """
        project = answers.project_key(backend, key)
        info = pins.pin(backend.store, project, example, backend.settings.pool_size)
        return Pinned(key=info.key, pinned=info.pinned)

    @router.post("/examples/{example}/unpin", summary="Unpin an example", responses=problems(409))
    def unpin_example(key: Key, example: ExampleKey) -> Pinned:
        """Treat it as any other from the next request on."""
        info = pins.unpin(backend.store, answers.project_key(backend, key), example)
        return Pinned(key=info.key, pinned=info.pinned)

    @router.post("/examples/measure", status_code=202, summary="Measure which examples harm the others")
    def measure_examples(key: Key) -> Measuring:
        """Queue a measuring by leave-one-out; the worker does it when nothing else waits, and `alarm` shows it."""
        project = answers.project_key(backend, key)
        jobs.measure(project)
        return Measuring(due=backend.alarm.is_due(project))

    @router.get("/alarm", summary="Name the examples that harm the others")
    def show_alarm(key: Key) -> Alarm:
        """Approved masks that make predictions worse, with the task of each that should be looked at again."""
        project = answers.project_key(backend, key)
        findings = backend.alarm.findings(project)
        suspects = [
            _suspect(info, target, found)
            for info, target in _pool(backend, project)
            if (found := findings.by_key.get(info.key)) is not None and found.suspicious
        ]
        worst = sorted(suspects, key=lambda suspect: suspect.found * suspect.agrees)
        return Alarm(measured_at=findings.at, due=backend.alarm.is_due(project), suspicious=worst)

    return router


def _pool(backend: Backend, project: str) -> list[tuple[ExampleInfo, Target | None]]:
    snapshot = answers.take(backend, project)
    targets = {target.id: target for target in snapshot.config.targets}
    return [(info, targets.get(info.target)) for pool in snapshot.pool.values() for info in pool]


def _example(info: ExampleInfo, target: Target | None, finding: Finding | None) -> Example:
    return Example(
        key=info.key,
        target=info.target,
        label=target.label if target else None,
        task=info.task,
        annotation=info.annotation,
        kind=info.kind,
        annotator=info.annotator,
        at=info.at,
        area=info.area,
        leave_one_out_iou=info.score,
        found=finding and finding.found,
        finds=finding and finding.finds,
        agrees=finding and finding.agrees,
        suspicious=finding and finding.suspicious,
        reason=finding and finding.reason,
        pinned=info.pinned,
    )


def _suspect(info: ExampleInfo, target: Target | None, finding: Finding) -> Suspect:
    return Suspect(
        key=info.key,
        target=info.target,
        label=target.label if target else None,
        task=info.task,
        annotation=info.annotation,
        reason=finding.reason,
        found=finding.found,
        finds=finding.finds,
        agrees=finding.agrees,
    )


def shown_dropped(one: dropped.Dropped) -> Dropped:
    """An example that was taken out of use, as the API tells of it."""
    return Dropped(
        key=one.key,
        target=one.target,
        task=one.task,
        annotation=one.annotation,
        at=one.at,
        act=one.act,
        because=one.because,
        returning=one.returning,
    )
