"""Projects: what is known of each, and what was predicted for its tasks."""

from fastapi import APIRouter
from pydantic import Field

from backend import titles
from backend.admin import answers, prompts, tunings
from backend.admin.answers import Answer, Key, problems
from backend.errors import Refused
from backend.jobs import Jobs, ask_again
from backend.store.records import TaskStatus
from backend.wiring import Backend


class Target(Answer):
    """One label of one control on one image of the labeling config."""

    target: str = Field(description="Target id, `control/image/label`.")
    control: str = Field(description="Name of the control tag.")
    image: str = Field(description="Name of the image tag.")
    label: str = Field(description="The label.")
    examples: int = Field(description="Approved masks in its pool.")
    prompt: prompts.PromptSummary | None = Field(
        description="The prompt that predictions use now; null: examples alone."
    )
    tuning: tunings.Tuning | None = Field(description="The tuning that waits or runs; null where none does.")


class KeptIoU(Answer):
    """IoU between what was predicted for tasks and what annotators submitted."""

    count: int = Field(description="Submissions that it was measured on.")
    mean: float | None = Field(description="0 to 1; null where there were none.")


class Project(Answer):
    """What is known of one project."""

    project: str = Field(description="Key: `number.created`, both Label Studio's.")
    title: str = Field(description="Its title in Label Studio as it was read last; empty where it never was.")
    revision: str = Field(description="What `model_version` of a prediction made now would be.")
    approvals: int = Field(description="Annotations approved so far; never falls.")
    reconciled: float = Field(
        description="Unix seconds of the last comparison with Label Studio; 0: none yet."
    )
    targets: list[Target] = Field(description="What can be learned in it, in the labeling config's order.")
    kept_iou: KeptIoU = Field(description="How much of the predictions annotators kept.")


class TaskState(Answer):
    """Where a task's background prediction stands."""

    task: int = Field(description="Label Studio's number of the task.")
    status: TaskStatus = Field(description="`queued`, `running`, `done` or `failed`.")
    reason: str = Field(description="Why, for people.")
    revision: str = Field(description="The `model_version` that it is about.")
    at: float = Field(description="Unix seconds.")


class Prediction(Answer):
    """One prediction with the exact context behind it."""

    revision: str = Field(description="The `model_version` that it was given under.")
    at: float = Field(description="Unix seconds.")
    score: float = Field(description="Expected kept IoU, 0 to 1.")
    context: dict[str, list[str]] = Field(
        description="For each target id the keys of what was used: the prompt (`project/prompt/number`) first, then "
        "examples; last what was predicted on the frame before (`project/predicted/task/digest`)."
    )
    pushed: int | None = Field(
        description="Label Studio's number of it where we pushed it; null where it asked."
    )
    seconds: float = Field(description="How long it took, image included.")


class Refresh(Answer):
    """That predictions are made anew."""

    revision: str = Field(description="The `model_version` that they will have.")


def routes(backend: Backend, jobs: Jobs) -> APIRouter:
    """Routes about projects and tasks."""
    router = APIRouter(prefix="/projects", tags=["projects"])
    one = problems(404, 422)

    @router.get("", summary="List projects")
    def list_projects() -> list[Project]:
        """Projects that the backend has seen."""
        return [_project(backend, record.key) for record in backend.store.projects()]

    @router.get("/{key}", summary="Show a project", responses=one)
    def show_project(key: Key) -> Project:
        """One project: revision, approvals, targets with pool, prompt and tuning, kept IoU."""
        return _project(backend, answers.project_key(backend, key))

    @router.get("/{key}/tasks", summary="Show where background predictions stand", responses=one)
    def list_tasks(key: Key) -> list[TaskState]:
        """Each task's state, with the reason for each task that got nothing."""
        states = backend.store.task_states(answers.project_key(backend, key))
        return [
            TaskState(
                task=state.task,
                status=state.status,
                reason=state.reason,
                revision=state.revision,
                at=state.at,
            )
            for state in states
        ]

    @router.post(
        "/{key}/refresh", status_code=202, summary="Predict tasks anew", responses=one | problems(409)
    )
    def refresh_predictions(key: Key) -> Refresh:
        """Queue a pass over the project's unlabeled tasks; those that have a prediction of this revision keep it."""
        project = answers.project_key(backend, key)
        answers.needs_label_studio(backend, "Predictions are pushed to Label Studio")
        if backend.settings.pre_annotate_limit == 0:
            raise Refused("PRE_ANNOTATE is off: nothing is predicted ahead.")
        snapshot = answers.take(backend, project)
        if not snapshot.ready:
            raise Refused("Nothing has been approved yet.")
        ask_again(backend, jobs, project)
        return Refresh(revision=snapshot.revision)

    @router.get("/{key}/tasks/{task}/predictions", summary="List a task's predictions", responses=one)
    def list_predictions(key: Key, task: answers.Task) -> list[Prediction]:
        """Predictions of a task, newest first, each with the exact context behind it."""
        records = backend.store.predictions(answers.project_key(backend, key), task)
        return [
            Prediction(
                revision=record.revision,
                at=record.at,
                score=record.score,
                context={target: list(keys) for target, keys in record.context.items()},
                pushed=record.pushed,
                seconds=record.seconds,
            )
            for record in records
        ]

    return router


def _project(backend: Backend, key: str) -> Project:
    snapshot = answers.take(backend, key)
    record = snapshot.record
    kept = backend.store.kept_figures(key, newest=answers.MOST)
    open_tunings = {
        tuning.target: tunings.shown(tuning, snapshot)
        for tuning in backend.store.prompts.tunings(key)
        if tuning.is_open
    }
    active = {target: prompts.shown(backend, prompt, snapshot) for target, prompt in snapshot.prompts.items()}
    targets = [
        Target(
            target=target.id,
            control=target.control,
            image=target.image,
            label=target.label,
            examples=len(snapshot.pool.get(target.id, ())),
            prompt=active.get(target.id),
            tuning=open_tunings.get(target.id),
        )
        for target in snapshot.config.targets
    ]
    return Project(
        project=key,
        title=titles.of(backend.store, key),
        revision=snapshot.revision,
        approvals=record.approvals if record else 0,
        reconciled=record.reconciled if record else 0.0,
        targets=targets,
        kept_iou=KeptIoU(count=kept.count, mean=kept.recent),
    )
