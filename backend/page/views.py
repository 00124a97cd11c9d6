"""The pages that show something."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from backend import doctor
from backend.admin import answers
from backend.admin.answers import Key, Task
from backend.admin.examples import Example, ExampleKey
from backend.admin.projects import Prediction
from backend.errors import NotFound
from backend.page import plot
from backend.page.access import Access, Visitor
from backend.page.offers import Offers
from backend.page.pages import Pages, names_of
from backend.page.rendering import LEFT, PageRoute, render
from backend.page.thumbnails import thumbnail
from backend.sequences import predicted_task
from backend.shadows import MOST, USUAL
from backend.store import TaskState
from backend.why import LEAST
from backend.wiring import Backend

_ROWS = 200  # tasks in one table
_REFRESH, _REFRESH_SLOWLY = 1, 3  # seconds between looks at what is going on
_DRAWN = 400  # kept IoUs in one plot


@dataclass(frozen=True)
class Behind:
    """One thing behind a prediction.

    Attributes:
        what: `prompt`, `example`, `predicted`: what was predicted on the frame before, or `gone`: an example that is in
            no pool any more.
        share: its part in the network's average, 0 to 1.
        example: where it is still there.
        number: of the prompt, or of the task that was predicted.
        key: of the example.
    """

    what: str
    share: float
    key: str
    example: Example | None = None
    number: str = ""


def routes(backend: Backend, access: Access, offers: Offers) -> APIRouter:
    """Pages that change nothing."""
    router = APIRouter(route_class=PageRoute)
    Here = Annotated[Visitor, Depends(access.visit)]

    @router.get("/")
    def show_projects(visitor: Here) -> Response:
        return render("projects.html", visitor=visitor, done="", projects=offers.projects())

    @router.get("/doctor")
    def show_doctor(visitor: Here) -> Response:
        began = time.monotonic()
        found = doctor.examine(backend.settings, segmenter=backend.segmenter)
        took = time.monotonic() - began
        return render("doctor.html", visitor=visitor, done="", findings=found, took=took)

    pages = Pages(backend, offers)
    router.include_router(_what_is_known(backend, access, offers, pages))
    router.include_router(_what_goes_on(backend, access, offers, pages))
    return router


def _what_is_known(backend: Backend, access: Access, offers: Offers, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=PageRoute)
    Here = Annotated[Visitor, Depends(access.visit)]
    Done = Annotated[str, Query()]

    @router.get("/projects/{key}")
    def show_overview(key: Key, visitor: Here, done: Done = "") -> Response:
        project = offers.project(key)
        figures = offers.figures(key)
        drawn = figures.kept[-_DRAWN:]
        return pages.render(
            "overview.html", visitor, project, done,
            figures=figures, alarm=offers.alarm(key), plot=plot.draw(drawn, figures.kept_count - len(drawn)),
            drawn=len(drawn), box=plot,
        )  # fmt: skip

    @router.get("/projects/{key}/examples")
    def show_examples(key: Key, visitor: Here, target: str = "", done: Done = "") -> Response:
        project = offers.project(key)
        examples = offers.examples(key)
        gone = offers.dropped(key)
        names = names_of(project, [*examples, *gone])
        shown = target or next(iter(names), "")
        if shown and shown not in names:
            raise NotFound("The project has no such label.")
        return pages.render(
            "examples.html", visitor, project, done,
            names=names, target=shown, examples=[one for one in examples if one.target == shown],
            counts={name: sum(one.target == name for one in examples) for name in names},
            alarm=offers.alarm(key), dropped=[one for one in gone if one.target == shown],
        )  # fmt: skip

    @router.get("/projects/{key}/examples/{example}/picture")
    def show_picture(key: Key, example: ExampleKey, _visitor: Here) -> Response:
        project = answers.project_key(backend, key)
        stored = backend.store.examples([example]).get(example)
        if stored is None:  # it left after the page was made: no error of whoever looks at that page
            return Response(LEFT, media_type="image/svg+xml")
        if stored.info.project != project:
            raise NotFound("There is no such example.")
        return Response(thumbnail(stored), media_type="image/png")

    return router


def _what_goes_on(backend: Backend, access: Access, offers: Offers, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=PageRoute)
    Here = Annotated[Visitor, Depends(access.visit)]
    Done = Annotated[str, Query()]

    @router.get("/projects/{key}/prompts")
    def show_prompts(key: Key, visitor: Here, done: Done = "") -> Response:
        project = offers.project(key)
        tunings = offers.tunings(key)
        going_on = any(tuning.status in ("queued", "running") for tuning in tunings)
        return pages.render(
            "prompts.html", visitor, project, done,
            prompts=offers.prompts(key)[::-1], tunings=tunings[:_ROWS], refresh=_REFRESH if going_on else 0,
            shadows=offers.shadows(key), usual=USUAL, most=MOST,
        )  # fmt: skip

    @router.get("/projects/{key}/tasks")
    def show_tasks(key: Key, visitor: Here, done: Done = "") -> Response:
        project = offers.project(key)
        states = backend.store.task_states(project.project)
        current = [state for state in states if state.revision == project.revision]
        ready = sum(state.status == "done" for state in current)
        nothing = [state for state in states if not _is_done(state, project.revision)]
        going_on = any(state.status in ("queued", "running") for state in current) or (
            done == "refreshing" and offers.is_predicting(project.project)  # the address keeps that word
        )
        return pages.render(
            "tasks.html", visitor, project, done,
            total=len(states), ready=ready, nothing=nothing[:_ROWS], waiting=len(nothing),
            older=sum(state.status == "done" for state in nothing),
            failed=sum(state.status == "failed" for state in nothing), refresh=_REFRESH_SLOWLY if going_on else 0,
        )  # fmt: skip

    @router.get("/projects/{key}/why")
    def find_task(key: Key, visitor: Here, task: Annotated[int, Query(ge=1, le=answers.MOST)]) -> Response:
        return show_why(key, task, visitor)

    @router.get("/projects/{key}/tasks/{task}")
    def show_why(key: Key, task: Task, visitor: Here, done: Done = "") -> Response:
        project = offers.project(key)
        examples = offers.examples(key)
        names = names_of(project, examples)
        predictions = offers.predictions(key, task)
        state = next(iter(backend.store.task_states(project.project, [task])), None)
        told = [(prediction, _behind(prediction, examples)) for prediction in predictions]
        masks = {mask.target: mask for mask in offers.why(key, task).masks} if predictions else {}
        waiting = any(mask.status == "waiting" for mask in masks.values())
        return pages.render(
            "why.html", visitor, project, done if waiting else "", task=task, names=names, told=told, state=state,
            masks=masks, least=LEAST, did={(mask.target, part.key): part for mask in masks.values() for part in mask.parts},
            refresh=_REFRESH_SLOWLY if waiting else 0,
        )  # fmt: skip

    return router


def _is_done(state: TaskState, revision: str) -> bool:
    return state.status == "done" and state.revision == revision


def _behind(prediction: Prediction, examples: Sequence[Example]) -> dict[str, list[Behind]]:
    """What is behind each target of a prediction. The network averages over all of it alike: equal shares."""
    there = {example.key: example for example in examples}
    told = {}
    for target, keys in prediction.context.items():
        part = 1 / max(len(keys), 1)
        told[target] = [
            Behind("prompt", part, key, number=key.rpartition("/")[2])
            if "/prompt/" in key
            else Behind("predicted", part, key, number=str(task))
            if (task := predicted_task(key)) is not None
            else Behind("example" if key in there else "gone", part, key, example=there.get(key))
            for key in keys
        ]
    return told
