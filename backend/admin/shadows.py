"""Shadows: prompts, or examples alone, that predict silently beside what is in use."""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import Field

from backend import shadows
from backend.admin import answers
from backend.admin.answers import MOST as LARGEST
from backend.admin.answers import Answer, Key, Wish, problems
from backend.errors import Refused
from backend.jobs import Jobs
from backend.revision import Snapshot
from backend.shadows import Verdict
from backend.wiring import Backend


class Shadow(Answer):
    """What one shadow has been compared with, and what came of it."""

    target: str = Field(description="Target id, `control/image/label`.")
    label: str = Field(description="Its label; the target id where the labeling config has it no longer.")
    prompt: int | None = Field(description="Number of the prompt that predicts; null: examples alone.")
    against: int | None = Field(
        description="Number of the prompt that it is compared with; null: examples alone."
    )
    running: bool = Field(description="Whether it goes on.")
    wanted: int = Field(description="Submissions that it was started for.")
    compared: int = Field(description="Those that have been compared.")
    waiting: int = Field(description="Those that the worker is to predict.")
    missed: int = Field(
        description="Those that could not be compared: withdrawn, or the picture was not to be had. "
        "Others take their place."
    )
    shown_iou: float | None = Field(
        description="Mean kept IoU of what was shown, 0 to 1; null where nothing has been compared."
    )
    shadow_iou: float | None = Field(
        description="Mean IoU of what the shadow predicted with the same submitted masks."
    )
    difference: float | None = Field(description="By how much the shadow's is greater, -1 to 1.")
    error: float | None = Field(
        description="Standard error of the difference, from pairs; null where there are fewer than two."
    )
    verdict: Verdict = Field(
        description="`better` or `worse`: the difference is more than two standard errors; `open`: it is not; "
        f"`too_few`: fewer than {shadows.FEWEST} were compared."
    )
    said: str = Field(description="The verdict, a sentence.")
    started: float = Field(description="Unix seconds.")
    ended: float | None = Field(description="Unix seconds; null while it runs.")
    reason: str = Field(description='Why it ended, a sentence; "" while it runs.')


class ShadowWish(Wish):
    """What is to predict silently."""

    prompt: int | None = Field(
        None,
        description="Number of the prompt; null for examples alone, while a prompt is active.",
        ge=1,
        le=LARGEST,
    )
    target: str | None = Field(
        None,
        description="Target id: whose examples; null where only one prompt of the project is active, and for a prompt.",
        max_length=1000,
    )
    submissions: int = Field(
        shadows.USUAL, description="How many submissions are to be compared.", ge=1, le=shadows.MOST
    )


class StopWish(Wish):
    """Which shadow is to be stopped."""

    target: str | None = Field(
        None, description="Target id; null where only one shadow of the project runs.", max_length=1000
    )


def routes(backend: Backend, _jobs: Jobs) -> APIRouter:
    """Routes about shadows."""
    router = APIRouter(prefix="/projects/{key}/shadows", tags=["prompts"], responses=problems(404, 422))

    @router.get("", summary="List shadows")
    def list_shadows(key: Key) -> list[Shadow]:
        """Those that run and the last that ended, the last that was started first."""
        project = answers.project_key(backend, key)
        with suppress(
            Refused
        ):  # they are being changed at this moment: the worker's next look ends those that must
            backend.shadowing.settle(project)
        snapshot = answers.take(backend, project)
        return [_shown(snapshot, one) for one in shadows.read(backend.store, project)]

    @router.post("", status_code=201, summary="Start a shadow", responses=problems(409))
    def start_shadow(key: Key, wish: ShadowWish) -> Shadow:
        """Let a prompt, or examples alone, predict silently from the next submission on.

        Annotators see nothing of it, and the revision stays as it is. Of each submission whose prediction was by what is
        in use, the worker predicts the same picture by the shadow and compares both with what was submitted.
        """
        project = answers.project_key(backend, key)
        snapshot = answers.take(backend, project)
        started = shadows.start(
            backend.store, snapshot, backend.checkpoint, wish.prompt, wish.target, wish.submissions
        )
        return _shown(snapshot, started)

    @router.post("/stop", summary="Stop a shadow", responses=problems(409))
    def stop_shadow(key: Key, wish: Annotated[StopWish | None, Body()] = None) -> Shadow:
        """End it before its time; what it has compared stays."""
        project = answers.project_key(backend, key)
        stopped = shadows.stop(backend.store, project, wish.target if wish else None)
        return _shown(answers.take(backend, project), stopped)

    return router


def _shown(snapshot: Snapshot, one: shadows.Shadow) -> Shadow:
    labels = {target.id: target.label for target in snapshot.config.targets}
    found = one.comparison
    return Shadow(
        target=one.target,
        label=labels.get(one.target, one.target),
        prompt=one.prompt,
        against=one.against,
        running=one.ended is None,
        wanted=one.wanted,
        compared=len(one.pairs),
        waiting=len(one.waiting),
        missed=one.missed,
        shown_iou=found.shown,
        shadow_iou=found.shadow,
        difference=found.difference,
        error=found.error,
        verdict=found.verdict,
        said=found.said,
        started=one.started,
        ended=one.ended,
        reason=one.reason,
    )
