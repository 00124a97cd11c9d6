"""Prompts: versions judged, activated, taken back, carried to other backends."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Body, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from backend import revision
from backend.admin import answers
from backend.admin.answers import Answer, Key, Version, problems
from backend.jobs import Jobs, ask_again
from backend.revision import Snapshot, Standing
from backend.store import PromptRecord
from backend.store.records import PromptOrigin, PromptStatus, Use
from backend.store.tensors import LIMIT_BYTES
from backend.wiring import Backend

_BINARY = "application/octet-stream"
_FILE: dict[str, Any] = {
    _BINARY: {"schema": {"type": "string", "format": "binary", "maxLength": LIMIT_BYTES}}
}
_TOO_LARGE = f"A prompt's file has at most {LIMIT_BYTES // 2**20} MiB."


class Figures(Answer):
    """What the gate measured: mean IoUs, 0 to 1, on masks that the judged prompt had not seen; null: not measured."""

    masks_judged: float | None = Field(None, description="How many masks the means below are of.")
    context_iou: float | None = Field(None, description="By examples alone, without any prompt.")
    prompt_iou: float | None = Field(None, description="By this prompt alone.")
    both_iou: float | None = Field(None, description="By this prompt beside a few examples.")
    incumbent_iou: float | None = Field(
        None, description="By the prompt that was active then, on masks that neither had seen."
    )
    rival_iou: float | None = Field(None, description="By this prompt on those same masks.")
    gain: float | None = Field(
        None, description="-1 to 1: by how much it beats what was in use; `TUNE_GATE` is compared with it."
    )
    validation_iou: float | None = Field(
        None,
        description="Of the final prompt on the masks that chose its best step: too rosy to judge it by.",
    )
    best_step: float | None = Field(None, description="Update at which it was best; 0: its start was.")


class PromptSummary(Answer):
    """One version of a learned prompt."""

    number: int = Field(description="Of the version, from 1, unique within the project.")
    target: str = Field(description="Target id, `control/image/label`.")
    label: str = Field(description="The target's label when the version was made.")
    status: PromptStatus = Field(
        description="`active`: in use; `candidate`: has never been; `retired`: was, and can be again."
    )
    unfit: str | None = Field(
        description="Why it cannot be used now (other checkpoint, label gone), a sentence; null where it can."
    )
    uses: Use = Field(
        description="How predictions use it: the `prompt` alone, or `both` it and a few examples."
    )
    origin: PromptOrigin = Field(description="Made here, or imported from a file.")
    checkpoint: str = Field(description="Identity of the checkpoint that it was tuned for; it fits no other.")
    examples: int = Field(description="Approved masks that it learned from.")
    withdrawn: int = Field(
        description="Those of them known to be withdrawn or corrected, during its tuning or since."
    )
    figures: Figures = Field(description="What was measured of it.")
    created: float = Field(description="Unix seconds.")
    activated: float | None = Field(description="Unix seconds of the last time; null where never.")
    retired: float | None = Field(description="Unix seconds; null where it is not retired.")
    replaced: int | None = Field(
        description="Number of the prompt that was active before it; null: examples alone."
    )
    reason: str = Field(description="Why it is what it is, a sentence.")


class Origin(Answer):
    """An example that a prompt learned from."""

    key: str = Field(description="Of the example.")
    task: int | None = Field(description="Label Studio's number of its task; null where it left the pool.")
    annotation: int | None = Field(description="Of its annotation; null where it left the pool.")
    standing: Standing = Field(
        description="`there`: still in the pool; `withdrawn_during`, `withdrawn_since`: withdrawn, corrected or "
        "dropped while the prompt was tuned or later; `gone`: withdrawn too, or made room in a full pool."
    )


class Prompt(PromptSummary):
    """One version with its provenance."""

    provenance: list[Origin] = Field(description="The examples behind it; empty for an imported one.")


class RollBackWish(BaseModel):
    """Which prompt is to be taken out of use."""

    model_config = ConfigDict(extra="forbid")

    target: str | None = Field(
        None, description="Target id; null where only one prompt of the project is in use."
    )
    prompt: int | None = Field(
        None,
        description="Number of the version that was seen in use; where another one is by then, nothing changes. "
        "null: whichever is.",
    )


class RolledBack(Answer):
    """What a roll back did."""

    retired: PromptSummary = Field(description="The prompt that is out of use now.")
    active: PromptSummary | None = Field(
        description="The one that is in use in its place; null: examples alone."
    )


def shown(backend: Backend, record: PromptRecord, snapshot: Snapshot) -> PromptSummary:
    """A version as people see it."""
    return PromptSummary(**_fields(backend, record, snapshot))


def routes(backend: Backend, jobs: Jobs) -> APIRouter:
    """Routes about prompts."""
    router = APIRouter(prefix="/projects/{key}/prompts", tags=["prompts"], responses=problems(404, 422))

    @router.get("", summary="List prompts")
    def list_prompts(key: Key) -> list[PromptSummary]:
        """All versions of the project, by number."""
        project = answers.project_key(backend, key)
        snapshot = answers.take(backend, project)
        return [shown(backend, record, snapshot) for record in backend.store.prompts.prompts(project)]

    @router.post(
        "",
        status_code=201,
        summary="Import a prompt",
        responses=problems(409, 413),
        openapi_extra={"requestBody": {"required": True, "content": _FILE}},
    )
    async def import_prompt(
        key: Key,
        request: Request,
        target: Annotated[
            str | None,
            Query(description="Target id that it is for; left out: the one with the file's label."),
        ] = None,
    ) -> Prompt:
        """Keep an exported file (the request's body) as a candidate; it is used once it is activated."""
        project = await run_sync(answers.project_key, backend, key)
        content = await _body(request)
        return await run_sync(_bring_in, backend, project, content, target)

    @router.post("/rollback", summary="Roll back to what was in use before", responses=problems(409))
    def roll_back(key: Key, wish: Annotated[RollBackWish | None, Body()] = None) -> RolledBack:
        """Take an active prompt out of use, from the next request on; computes nothing.

        In use is then the prompt that it had replaced, where that still fits, else examples alone. The project's
        revision moves, so that Label Studio asks again.
        """
        project = answers.project_key(backend, key)
        wish = wish or RollBackWish()
        done = backend.prompts.roll_back(project, wish.target, number=wish.prompt)
        ask_again(backend, jobs, project)
        snapshot = answers.take(backend, project)
        active = shown(backend, done.active, snapshot) if done.active else None
        return RolledBack(retired=shown(backend, done.retired, snapshot), active=active)

    @router.get("/{number}", summary="Show a prompt")
    def show_prompt(key: Key, number: Version) -> Prompt:
        """One version: what it learned from, what was measured, why it is or is not in use."""
        project = answers.project_key(backend, key)
        return _whole(backend, backend.prompts.get(project, number))

    @router.post("/{number}/activate", summary="Activate a prompt", responses=problems(409))
    def activate_prompt(key: Key, number: Version) -> Prompt:
        """Use a version from the next request on; the one that was active is retired and can be rolled back to."""
        project = answers.project_key(backend, key)
        record = backend.prompts.activate(project, number)
        ask_again(backend, jobs, project)
        return _whole(backend, record)

    @router.get(
        "/{number}/file",
        summary="Export a prompt",
        response_class=Response,
        responses={200: {"description": "A safetensors file with its card.", "content": _FILE}},
    )
    def export_prompt(key: Key, number: Version) -> Response:
        """The version as one safetensors file: two tensors and a card without names of tasks, images or people."""
        content = backend.prompts.export(answers.project_key(backend, key), number)
        name = f"seggpt-prompt-{number}.safetensors"
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
        }
        return Response(content, media_type=_BINARY, headers=headers)

    return router


def _bring_in(backend: Backend, project: str, content: bytes, target: str | None) -> Prompt:
    return _whole(backend, backend.prompts.bring_in(project, content, target))


async def _body(request: Request) -> bytes:
    """The request's body, read no further than a prompt's file can be long."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > LIMIT_BYTES:
        raise HTTPException(413, _TOO_LARGE)
    content = bytearray()
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > LIMIT_BYTES:
                raise HTTPException(413, _TOO_LARGE)
    except ClientDisconnect:
        raise HTTPException(422, "The file did not arrive whole.") from None
    return bytes(content)


def _whole(backend: Backend, record: PromptRecord) -> Prompt:
    snapshot = answers.take(backend, record.project)
    pool = {info.key: info for info in snapshot.pool.get(record.target, ())}
    provenance = [
        Origin(
            key=key,
            task=pool[key].task if key in pool else None,
            annotation=pool[key].annotation if key in pool else None,
            standing=standing,
        )
        for key, standing in _standing(backend, record, snapshot).items()
    ]
    return Prompt(**_fields(backend, record, snapshot), provenance=provenance)


def _fields(backend: Backend, record: PromptRecord, snapshot: Snapshot) -> dict[str, Any]:
    standings = _standing(backend, record, snapshot).values()
    return {
        "number": record.number,
        "target": record.target,
        "label": record.label,
        "status": record.status,
        "unfit": revision.unfit(record, snapshot.config, backend.checkpoint),
        "uses": record.uses,
        "origin": record.origin,
        "checkpoint": record.checkpoint,
        "examples": record.masks,
        "withdrawn": sum(standing.startswith("withdrawn") for standing in standings),
        "figures": Figures(**{name: record.figures.get(name) for name in Figures.model_fields}),
        "created": record.created,
        "activated": record.activated,
        "retired": record.retired,
        "replaced": record.replaced,
        "reason": record.reason,
    }


def _standing(backend: Backend, record: PromptRecord, snapshot: Snapshot) -> dict[str, Standing]:
    pool = snapshot.pool.get(record.target, ())
    return revision.standing(record, pool, backend.settings.pool_size)
