"""Influence: what a person, a day or a label taught, previewed, taken out of use as one act, and put back as one."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from backend import dropped
from backend.admin import answers
from backend.admin.answers import Answer, Key, Wish, problems
from backend.admin.examples import Dropped, shown_dropped
from backend.errors import NotFound
from backend.jobs import Jobs, ask_again
from backend.prompts.influence import By, Preview, Weighed
from backend.wiring import Backend

ActName = Annotated[str, Path(description="The act's `act`.", min_length=1, max_length=64)]


class Source(Answer):
    """A person, a day or a label that examples came from."""

    by: By = Field(description="What it is.")
    what: str = Field(
        description="Label Studio's number of the user, or `unknown`; the day as `YYYY-MM-DD`, UTC; or the target id."
    )
    examples: int = Field(description="How many of its examples are in use.")


class PoolWithout(Answer):
    """What one pool would be without the examples that would go."""

    target: str = Field(description="Target id, `control/image/label`.")
    going: int = Field(description="How many would go.")
    staying: int = Field(description="How many would stay.")
    pictures: int = Field(
        description="How many of those that stay were predicted, each by others; 0: not yet, or fewer than two stay."
    )
    before: float | None = Field(
        description="Mean IoU, 0 to 1, of these by all other examples; null where it was not measured."
    )
    after: float | None = Field(description="The same, by the examples alone that would stay.")


class InfluencePreview(Answer):
    """What taking the examples of a source out of use would do."""

    preview: str = Field(description="Names it, to be taken out.")
    by: By = Field(description="What the examples are chosen by.")
    what: str = Field(description="As in `sources`.")
    examples: list[str] = Field(description="Keys of those that would go.")
    asked: float = Field(description="Unix seconds.")
    weighed: float | None = Field(
        description="When its figures were worked out, Unix seconds; null: not yet."
    )
    pools: list[PoolWithout] = Field(description="One for each label that would lose some.")


class Act(Answer):
    """Examples that were taken out of use as one."""

    act: str = Field(description="Names it.")
    because: str = Field(description="Whose they were, for people.")
    at: float = Field(description="Unix seconds.")
    examples: list[Dropped] = Field(description="Those of them that can be put back.")


class Influences(Answer):
    """Whose influence can be taken back, and whose was."""

    sources: list[Source] = Field(description="Persons, then days, then labels.")
    preview: InfluencePreview | None = Field(description="The last preview that was asked for; null: none.")
    acts: list[Act] = Field(description="What was taken out and can be put back, the last first.")


class PreviewWish(Wish):
    """Whose examples would go."""

    by: By = Field(description="What they are chosen by.")
    what: str = Field(description="As `sources` lists it.", min_length=1, max_length=1000)


class TakeOutWish(Wish):
    """Which preview is meant."""

    preview: str = Field(description="Its name, so that nothing else goes than was shown.", max_length=64)
    unweighed: bool = Field(False, description="Whether its figures are not waited for.")


def routes(backend: Backend, jobs: Jobs) -> APIRouter:
    """Routes about influence."""
    router = APIRouter(prefix="/projects/{key}/influence", tags=["examples"], responses=problems(404, 422))

    @router.get("", summary="Show whose influence can be taken back")
    def show_influence(key: Key) -> Influences:
        """Persons, days and labels that examples came from; the last preview; what was taken out as one."""
        return _influences(backend, answers.project_key(backend, key))

    @router.post(
        "/preview",
        status_code=202,
        summary="Preview a project without somebody's examples",
        responses=problems(409),
    )
    def preview_influence(key: Key, wish: PreviewWish) -> InfluencePreview:
        """Nothing is taken out. The worker works out the figures when nothing else waits: look again."""
        project = answers.project_key(backend, key)
        preview = backend.influence.ask(project, wish.by, wish.what)
        jobs.measure(project)
        return _preview(preview)

    @router.post("/put-away", summary="Put the preview away", responses=problems(409))
    def put_preview_away(key: Key) -> Influences:
        """Nothing is taken out; its figures are worked out no more."""
        project = answers.project_key(backend, key)
        backend.influence.put_away(project)
        return _influences(backend, project)

    @router.post("/acts", summary="Take out of use what was previewed", responses=problems(409))
    def take_out(key: Key, wish: TakeOutWish) -> Act:
        """Predict without these examples from the next request on; annotations stay, and the revision moves once."""
        project = answers.project_key(backend, key)
        gone = backend.influence.take_out(project, wish.preview, unweighed=wish.unweighed)
        ask_again(backend, jobs, project)
        return _act(gone)

    @router.post(
        "/acts/{act}/restore", status_code=202, summary="Put an act's examples back", responses=problems(409)
    )
    def restore_act(key: Key, act: ActName) -> Act:
        """Read their annotations again from Label Studio, which takes the worker some time."""
        project = answers.project_key(backend, key)
        answers.needs_label_studio(backend, answers.READ_AGAIN)
        back = dropped.put_back_act(backend.store, project, act)
        jobs.reconcile(project)
        return _act(back)

    return router


def _influences(backend: Backend, project: str) -> Influences:
    preview = backend.influence.preview(project)
    return Influences(
        sources=[
            Source(by=one.by, what=one.what, examples=one.examples)
            for one in backend.influence.sources(project)
        ],
        preview=preview and _preview(preview),
        acts=_acts(backend, project),
    )


def _acts(backend: Backend, project: str) -> list[Act]:
    together: dict[str, list[dropped.Dropped]] = {}
    for one in dropped.listed(backend.store, project, backend.store.pool(project)):
        if one.act:
            together.setdefault(one.act, []).append(one)
    return [_act(gone) for gone in together.values()]


def _act(gone: list[dropped.Dropped]) -> Act:
    if not gone:
        raise NotFound("Nothing of it is left.")
    first = gone[0]
    return Act(
        act=first.act,
        because=first.because,
        at=first.at,
        examples=[shown_dropped(one) for one in gone],
    )


def _preview(preview: Preview) -> InfluencePreview:
    return InfluencePreview(
        preview=preview.id,
        by=preview.by,
        what=preview.what,
        examples=list(preview.keys),
        asked=preview.asked,
        weighed=preview.weighed,
        pools=[_pool(one) for one in preview.pools],
    )


def _pool(one: Weighed) -> PoolWithout:
    return PoolWithout(
        target=one.target,
        going=one.going,
        staying=one.staying,
        pictures=one.pictures,
        before=one.before,
        after=one.after,
    )
