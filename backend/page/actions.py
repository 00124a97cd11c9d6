"""What the page's forms do: each does one thing and leads back to a page that says so."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse

from backend.admin import answers
from backend.admin.answers import Key, Version
from backend.admin.examples import ExampleKey
from backend.page.access import Access, Form
from backend.page.offers import Offers
from backend.page.rendering import PageRoute


def routes(access: Access, offers: Offers) -> APIRouter:
    """Forms; all of them must come from a page of ours."""
    router = APIRouter(prefix="/projects/{key}", route_class=PageRoute)
    Fields = Annotated[Form, Depends(access.act())]

    @router.post("/examples/{example}/drop")
    def drop(key: Key, example: ExampleKey, form: Fields) -> Response:
        offers.drop(key, example)
        return _back(key, "examples", "dropped", form)

    @router.post("/examples/{example}/restore")
    def restore(key: Key, example: ExampleKey, form: Fields) -> Response:
        offers.restore(key, example)
        return _back(key, "examples", "restored", form)

    @router.post("/measure")
    def measure(key: Key, form: Fields) -> Response:
        offers.measure(key)
        return _back(key, "examples", "measuring", form)

    @router.post("/tunings")
    def tune(key: Key, form: Fields) -> Response:
        target = form.get("target")
        offers.tune(key, [target] if target else None)
        return _back(key, "prompts", "tuning")

    @router.post("/tunings/{tuning}/stop")
    def stop(key: Key, tuning: answers.Tuning, _form: Fields) -> Response:
        offers.stop(key, tuning)
        return _back(key, "prompts", "stopping")

    @router.post("/tunings/{tuning}/resume")
    def resume(key: Key, tuning: answers.Tuning, _form: Fields) -> Response:
        offers.resume(key, tuning)
        return _back(key, "prompts", "resumed")

    @router.post("/prompts/{number}/activate")
    def activate(key: Key, number: Version, _form: Fields) -> Response:
        offers.activate(key, number)
        return _back(key, "prompts", "activated")

    @router.post("/rollback")
    def roll_back(key: Key, form: Fields) -> Response:
        offers.roll_back(key, form.get("target") or None)
        return _back(key, "prompts", "rolled-back")

    @router.post("/refresh")
    def refresh(key: Key, _form: Fields) -> Response:
        offers.refresh(key)
        return _back(key, "tasks", "refreshing")

    return router


def _back(key: str, page: str, done: str, form: Form | None = None) -> Response:
    """To the page that the form stood on, after it was done: so that reloading does nothing twice."""
    target = (form or {}).get("target", "")
    shown = f"target={quote(target, safe='')}&" if target else ""
    return RedirectResponse(f"/projects/{quote(key, safe='')}/{page}?{shown}done={done}", 303)
