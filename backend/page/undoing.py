"""The pages on whose influence can be taken back, and on labels that the labeling config lost."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from backend.admin import answers
from backend.admin.answers import Key
from backend.page.access import Access, Visitor
from backend.page.offers import Offers
from backend.page.pages import Pages, names_of
from backend.page.rendering import PageRoute

_PICTURES = 60  # of one preview
_CHOICES = 40  # on one page; a form has no more than 50 fields
_REFRESH = 2  # seconds between looks whether the figures are there


def routes(access: Access, offers: Offers, pages: Pages) -> APIRouter:
    """Pages that change nothing."""
    router = APIRouter(prefix="/projects/{key}", route_class=PageRoute)
    Here = Annotated[Visitor, Depends(access.visit)]
    Done = Annotated[str, Query()]

    @router.get("/influence")
    def show_influence(key: Key, visitor: Here, done: Done = "") -> Response:
        project = offers.project(key)
        known = offers.influence(key)
        examples = {one.key: one for one in offers.examples(key)}
        preview = known.preview
        going = [examples[name] for name in (preview.examples if preview else ()) if name in examples]
        return pages.render(
            "influence.html", visitor, project, done,
            known=known, names=names_of(project, examples.values()), going=going[:_PICTURES],
            many=len(going), refresh=_REFRESH if preview and preview.weighed is None else 0,
        )  # fmt: skip

    @router.get("/lost-labels")
    def show_lost_labels(
        key: Key,
        visitor: Here,
        done: Done = "",
        start: Annotated[int, Query(ge=0, le=answers.MOST)] = 0,
    ) -> Response:
        project = offers.project(key)
        return pages.render("lost_labels.html", visitor, project, done, start=start, size=_CHOICES)

    return router
