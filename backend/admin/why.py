"""Why this mask: what each part of the context behind a prediction did for it, measured on request."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body
from pydantic import Field

from backend.admin import answers
from backend.admin.answers import Answer, Key, Wish, problems
from backend.jobs import Jobs
from backend.why import Measured
from backend.wiring import Backend

Status = Literal["not_asked", "waiting", "measured", "impossible"]


class Part(Answer):
    """What an example, a prompt, or what was predicted on the frame before did for a mask."""

    key: str = Field(description="Its key, as in the prediction's `context`.")
    share: float = Field(
        description="Of all that the parts did, 0 to 1: its `without`, over the sum of all, where less than 0.005 counts as "
        "0; equal where nothing changes anything. 1 for the only part."
    )
    without: float | None = Field(
        description="By how much the mask would differ without it: 1 - IoU, 0 to 1; null for the only part."
    )
    alone: float | None = Field(
        description="IoU, 0 to 1, of the mask that it alone makes with the one that was shown; null for the only part."
    )


class Why(Answer):
    """What is behind one mask of a prediction."""

    target: str = Field(description="Target id, `control/image/label`.")
    status: Status = Field(
        description="`not_asked`; `waiting`: the worker has it; `measured`; `impossible`: `reason` says why."
    )
    reason: str = Field(description="Why it could not be measured, for people; else empty.")
    measured: float | None = Field(description="When it was tried, Unix seconds; null: not yet.")
    parts: list[Part] = Field(
        description="In the order of the prediction's `context`; empty unless measured."
    )


class PredictionWhy(Answer):
    """What is behind a task's newest prediction."""

    revision: str = Field(description="The prediction's `model_version`.")
    at: float = Field(description="When it was made, Unix seconds.")
    masks: list[Why] = Field(description="One for each label that was looked for.")


class WhyWish(Wish):
    """Which masks are to be measured."""

    targets: list[answers.TargetId] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Target ids (`control/image/label`); null: all of the prediction's.",
    )


def routes(backend: Backend, jobs: Jobs) -> APIRouter:
    """Routes about what is behind a prediction."""
    router = APIRouter(
        prefix="/projects/{key}/tasks/{task}/why", tags=["projects"], responses=problems(404, 422)
    )

    @router.get("", summary="Show what each part behind a prediction did")
    def show_why(key: Key, task: answers.Task) -> PredictionWhy:
        """Of the task's newest prediction, where it was measured. A newer prediction takes the figures with it."""
        return _shown(backend, answers.project_key(backend, key), task)

    @router.post("", status_code=202, summary="Measure what each part did", responses=problems(409))
    def measure_why(
        key: Key, task: answers.Task, wish: Annotated[WhyWish | None, Body()] = None
    ) -> PredictionWhy:
        """Make the mask again without each part and by each alone: the worker does, when nothing else waits.

        What was measured is not measured again; what could not be is tried again.
        """
        project = answers.project_key(backend, key)
        backend.why.ask(project, task, wish.targets if wish else None)
        found = _shown(backend, project, task)
        if any(mask.status == "waiting" for mask in found.masks):
            jobs.measure(project)
        return found

    return router


def _shown(backend: Backend, project: str, task: int) -> PredictionWhy:
    record, known = backend.why.of(project, task)
    masks = [_mask(target, keys, known.get(target)) for target, keys in record.context.items()]
    return PredictionWhy(revision=record.revision, at=record.at, masks=masks)


def _mask(target: str, keys: tuple[str, ...], found: Measured | None) -> Why:
    if found is None:
        return Why(target=target, status="not_asked", reason="", measured=None, parts=[])
    status: Status = "waiting" if found.at is None else "impossible" if found.reason else "measured"
    parts = [
        Part(key=part.key, share=part.share, without=part.without, alone=part.alone)
        for part in found.parts(keys)
    ]
    return Why(target=target, status=status, reason=found.reason, measured=found.at, parts=parts)
