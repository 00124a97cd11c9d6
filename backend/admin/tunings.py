"""Tunings: asked for, watched, stopped, gone on with."""

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from backend.admin import answers
from backend.admin.answers import Answer, Key, problems
from backend.errors import NotFound
from backend.jobs import Jobs
from backend.revision import Snapshot
from backend.store import TuningRecord
from backend.store.records import TuningStatus
from backend.wiring import Backend


class TuningWish(BaseModel):
    """What is to be tuned."""

    model_config = ConfigDict(extra="forbid")

    targets: list[answers.TargetId] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Target ids (`control/image/label`); null: all of which something has been approved.",
    )


class Tuning(Answer):
    """One tuning: what was asked for, how far it is, what came of it."""

    id: int = Field(description="Of the tuning, from 1, unique over all projects.")
    target: str = Field(description="Target id, `control/image/label`.")
    label: str | None = Field(
        description="The target's label; null where the labeling config has it no longer."
    )
    status: TuningStatus = Field(
        description="`queued`: waits for the worker; `running`; `stopped`: can go on; `done`: see `prompt`; `failed`."
    )
    asked_by: str = Field(description="What asked for it, a few words.")
    created: float = Field(description="Unix seconds.")
    started: float | None = Field(description="Unix seconds of its first run; null before.")
    updated: float | None = Field(description="Unix seconds of the last sign of life; null before the first.")
    ended: float | None = Field(description="Unix seconds; null while it waits or runs.")
    step: int = Field(description="Updates done, those that only serve its judgement included.")
    steps: int = Field(description="Updates at most; 0 before it starts.")
    loss: float | None = Field(description="Of the last update, 0 or more; null before the first.")
    validation_iou: float | None = Field(
        description="Mean IoU, 0 to 1, on the masks kept apart to choose the best step; null before the first look."
    )
    seconds_left: float | None = Field(
        description="At most, by the pace so far, judgement included; null where unknown."
    )
    examples: int = Field(description="Approved masks that it learns from; 0 before it starts.")
    prompt: int | None = Field(description="Number of the prompt that came of it; null where none did (yet).")
    reason: str = Field(
        description="Why it failed or stopped, or what became of its prompt, a sentence; or empty."
    )
    stopping: bool = Field(description="Whether it was asked to stop; it keeps what it has first.")


def shown(record: TuningRecord, snapshot: Snapshot) -> Tuning:
    """A record as people see it."""
    labels = {target.id: target.label for target in snapshot.config.targets}
    return Tuning(
        id=record.id,
        target=record.target,
        label=labels.get(record.target),
        status=record.status,
        asked_by=record.asked_by,
        created=record.created,
        started=record.started,
        updated=record.updated,
        ended=record.ended,
        step=record.step,
        steps=record.steps,
        loss=record.loss,
        validation_iou=record.validation_iou,
        seconds_left=record.seconds_left,
        examples=len(record.examples),
        prompt=record.prompt,
        reason=record.reason,
        stopping=record.stop and record.is_open,
    )


def routes(backend: Backend, jobs: Jobs) -> APIRouter:
    """Routes about tunings."""
    router = APIRouter(prefix="/projects/{key}/tunings", tags=["tunings"], responses=problems(404, 422))

    @router.get("", summary="List tunings")
    def list_tunings(key: Key) -> list[Tuning]:
        """All tunings of the project, newest first."""
        project = answers.project_key(backend, key)
        snapshot = answers.take(backend, project)
        return [shown(record, snapshot) for record in backend.store.prompts.tunings(project)]

    @router.post("", status_code=202, summary="Start tunings", responses=problems(409))
    def start_tunings(key: Key, wish: Annotated[TuningWish | None, Body()] = None) -> list[Tuning]:
        """Queue a tuning for each target; the worker runs one after the other, beside everything else.

        A target that is being tuned already gets no second one: the open one is returned. A target with too few
        examples gets one that has failed at once and says how many are needed.
        """
        project = answers.project_key(backend, key)
        asked = backend.tunings.ask(project, "admin API", wish.targets if wish else None)
        for record in asked:
            if record.is_open:
                jobs.tune(record.id)
        snapshot = answers.take(backend, project)
        return [shown(record, snapshot) for record in asked]

    @router.get("/{tuning}", summary="Watch a tuning")
    def show_tuning(key: Key, tuning: answers.Tuning) -> Tuning:
        """How far it is; changes about once a second while it runs."""
        project = answers.project_key(backend, key)
        return shown(_found(backend, project, tuning), answers.take(backend, project))

    @router.post("/{tuning}/stop", summary="Stop a tuning", responses=problems(409))
    def stop_tuning(key: Key, tuning: answers.Tuning) -> Tuning:
        """Ask it to stop: after its current update it keeps what it needs to go on, and its status is `stopped`."""
        project = answers.project_key(backend, key)
        record = backend.tunings.stop(_found(backend, project, tuning).id)
        return shown(record, answers.take(backend, project))

    @router.post("/{tuning}/resume", summary="Go on with a tuning", responses=problems(409))
    def resume_tuning(key: Key, tuning: answers.Tuning) -> Tuning:
        """Queue a stopped tuning again; it goes on from where it was, or anew where its examples have changed."""
        project = answers.project_key(backend, key)
        record = backend.tunings.resume(_found(backend, project, tuning).id)
        jobs.tune(record.id)
        return shown(record, answers.take(backend, project))

    return router


def _found(backend: Backend, project: str, number: int) -> TuningRecord:
    record = backend.tunings.get(number)
    if record.project != project:
        raise NotFound(f"Project {project} has no tuning {number}.")
    return record
