"""The admin page at `/`: plain HTML made by the server, on top of what the admin API offers."""

from collections.abc import Iterable

from fastapi import APIRouter

from backend.jobs import Jobs
from backend.page import actions, undoing, views
from backend.page.access import Access
from backend.page.offers import Offers
from backend.page.pages import Pages
from backend.page.rendering import statics
from backend.wiring import Backend


def router(backend: Backend, jobs: Jobs, offered: Iterable[APIRouter]) -> APIRouter:
    """Routes of the page, on what the admin API offers; none of them is part of the documented API."""
    routes = APIRouter(include_in_schema=False)
    access, offers = Access(backend), Offers(backend, jobs, offered)
    for part in (
        statics(),
        access.routes(),
        views.routes(backend, access, offers),
        undoing.routes(access, offers, Pages(backend, offers)),
        actions.routes(access, offers),
    ):
        routes.include_router(part)
    return routes
