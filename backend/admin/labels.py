"""Lost labels: those that the labeling config had while they had examples, and what their pools become."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from backend import lost_labels, revision
from backend.admin import answers
from backend.admin.answers import MOST, Answer, Key, Wish, problems
from backend.jobs import Jobs
from backend.label_config import LabelConfig
from backend.lost_labels import LostLabel, LostLabels
from backend.store import ExampleInfo
from backend.wiring import Backend

TargetId = Annotated[str, Field(min_length=1, max_length=1000)]
Annotation = Annotated[int, Field(ge=1, le=MOST)]


class Choice(Answer):
    """One example of a lost label, and whose it is to be."""

    annotation: int = Field(description="Label Studio's number of the annotation.")
    task: int = Field(description="Label Studio's number of the task.")
    key: str = Field(description="Of the example as it is in use, or kept aside, now.")
    target: str = Field(description="Target id that it was chosen for; empty: it is kept aside.")


class Lost(Answer):
    """A label with examples that the labeling config has no longer."""

    target: str = Field(description="Target id that it had, `control/image/label`.")
    label: str = Field(description="The label.")
    lost: float = Field(description="When the labeling config was seen without it, Unix seconds.")
    answer: lost_labels.Answer = Field(
        description="What its pool becomes: `unanswered` and `aside`: its examples are kept, and nothing is predicted "
        "by them; `move`: another label has them; `split`: others have those that were chosen for them."
    )
    to: str = Field(description="With `move`, the target id that has them; else empty.")
    examples: int = Field(description="How many are kept under its name now.")
    choices: list[Choice] = Field(
        description="Its examples, those included that were chosen for others, by annotation."
    )
    may_become: list[str] = Field(description="Target ids of the labeling config that can have them.")


class AnswerWish(Wish):
    """What becomes of a lost label's pool."""

    target: TargetId = Field(description="Target id of the lost label.")
    answer: Literal["aside", "move", "split"] = Field(description="As in `answer` of the lost label.")
    to: TargetId | None = Field(None, description="With `move`: target id that gets all.")
    chosen: dict[Annotation, TargetId | None] | None = Field(
        None,
        max_length=2000,
        description="With `split`: target id by annotation; null keeps one aside. Others stay as they were chosen.",
    )


class TakeBackWish(Wish):
    """Which answer is taken back."""

    target: TargetId = Field(description="Target id of the lost label.")


def routes(backend: Backend, jobs: Jobs) -> APIRouter:
    """Routes about lost labels."""
    router = APIRouter(prefix="/projects/{key}/lost-labels", tags=["examples"], responses=problems(404, 422))

    @router.get("", summary="List labels that the labeling config lost")
    def list_lost_labels(key: Key) -> list[Lost]:
        """Labels that had examples when the labeling config lost them, with what their pools became."""
        project = answers.project_key(backend, key)
        config = revision.config_of(backend.store.project(project))
        lost = lost_labels.of(backend.store, project, config)
        pool = backend.store.pool(project) if lost.targets else []  # every page asks, and mostly none is lost
        shown = [_lost(one, lost, config, pool) for one in lost]
        return [one for one in shown if one.choices or one.answer != "unanswered"]

    @router.post("", status_code=202, summary="Say what a lost label's pool becomes", responses=problems(409))
    def answer_lost_label(key: Key, wish: AnswerWish) -> Lost:
        """Annotations are read again by the answer, which takes the worker some time; the revision moves then."""
        project = _connected(backend, key)
        if wish.answer == "move":
            answered = lost_labels.move(backend.store, project, wish.target, wish.to or "")
        elif wish.answer == "split":
            chosen = {annotation: to or "" for annotation, to in (wish.chosen or {}).items()}
            answered = lost_labels.split(backend.store, project, wish.target, chosen)
        else:
            answered = lost_labels.keep_aside(backend.store, project, wish.target)
        jobs.reconcile(project)
        return _shown(backend, project, answered)

    @router.post("/take-back", status_code=202, summary="Take an answer back", responses=problems(409))
    def take_answer_back(key: Key, wish: TakeBackWish) -> Lost:
        """Its examples return to it, and wait for another answer."""
        project = _connected(backend, key)
        answered = lost_labels.take_back(backend.store, project, wish.target)
        jobs.reconcile(project)
        return _shown(backend, project, answered)

    return router


def _connected(backend: Backend, key: str) -> str:
    answers.needs_label_studio(backend, answers.READ_AGAIN)
    return answers.project_key(backend, key)


def _shown(backend: Backend, project: str, one: LostLabel) -> Lost:
    snapshot = answers.take(backend, project)
    lost = lost_labels.of(backend.store, project, snapshot.config)
    return _lost(one, lost, snapshot.config, [info for there in snapshot.pool.values() for info in there])


def _lost(one: LostLabel, lost: LostLabels, config: LabelConfig, pool: list[ExampleInfo]) -> Lost:
    name = one.target.id
    choices = {
        info.annotation: Choice(
            annotation=info.annotation,
            task=info.task,
            key=info.key,
            target=lost.destination(name, info.annotation) if one.answer == "split" else "",
        )
        for info in pool
        if info.target == name
        or (info.annotation in one.chosen and info.target == lost.destination(name, info.annotation))
    }
    return Lost(
        target=name,
        label=one.target.label,
        lost=one.at,
        answer=one.answer,
        to=one.to,
        examples=sum(info.target == name for info in pool),
        choices=[choices[annotation] for annotation in sorted(choices)],
        may_become=[target.id for target in lost_labels.may_take(config, one)],
    )
