"""What the page's forms do: each does one thing and leads back to a page that says so."""

from typing import Annotated, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ValidationError

from backend.admin import answers
from backend.admin.answers import Key, Version
from backend.admin.examples import ExampleKey
from backend.admin.influence import ActName, PreviewWish, TakeOutWish
from backend.admin.labels import AnswerWish, TakeBackWish
from backend.admin.prompts import RollBackWish
from backend.admin.shadows import ShadowWish, StopWish
from backend.errors import BadRequest
from backend.page.access import Access, Form
from backend.page.offers import Offers
from backend.page.rendering import PageRoute


def routes(access: Access, offers: Offers) -> APIRouter:
    """Forms; all of them must come from a page of ours."""
    router = APIRouter(prefix="/projects/{key}", route_class=PageRoute)
    for some in (_about_examples, _about_prompts, _about_many_examples):
        some(router, access, offers)
    return router


def _about_examples(router: APIRouter, access: Access, offers: Offers) -> None:
    Fields = Annotated[Form, Depends(access.act())]

    @router.post("/examples/{example}/drop")
    def drop(key: Key, example: ExampleKey, form: Fields) -> Response:
        offers.drop(key, example)
        return _back(key, "examples", "dropped", form)

    @router.post("/examples/{example}/restore")
    def restore(key: Key, example: ExampleKey, form: Fields) -> Response:
        offers.restore(key, example)
        return _back(key, "examples", "restored", form)

    @router.post("/examples/{example}/pin")
    def pin(key: Key, example: ExampleKey, form: Fields) -> Response:
        offers.pin(key, example)
        return _back(key, "examples", "pinned", form)

    @router.post("/examples/{example}/unpin")
    def unpin(key: Key, example: ExampleKey, form: Fields) -> Response:
        offers.unpin(key, example)
        return _back(key, "examples", "unpinned", form)

    @router.post("/measure")
    def measure(key: Key, form: Fields) -> Response:
        offers.measure(key)
        return _back(key, "examples", "measuring", form)


def _about_prompts(router: APIRouter, access: Access, offers: Offers) -> None:
    Fields = Annotated[Form, Depends(access.act())]

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
        offers.roll_back(key, _wish(RollBackWish, prompt=form.get("prompt", "")))
        return _back(key, "prompts", "rolled-back")

    @router.post("/shadows")
    def start_shadow(key: Key, form: Fields) -> Response:
        kind, _, what = form.get("what", "").partition(":")
        chosen = {"prompt": what} if kind == "prompt" else {"target": what}
        offers.start_shadow(key, _wish(ShadowWish, submissions=form.get("submissions"), **chosen))
        return _back(key, "prompts", "shadowing")

    @router.post("/shadows/stop")
    def stop_shadow(key: Key, form: Fields) -> Response:
        offers.stop_shadow(key, _wish(StopWish, target=form.get("target")))
        return _back(key, "prompts", "shadow-stopped")

    @router.post("/tasks/{task}/why")
    def measure_why(key: Key, task: answers.Task, _form: Fields) -> Response:
        offers.measure_why(key, task)
        return _back(key, f"tasks/{task}", "measuring")

    @router.post("/refresh")
    def refresh(key: Key, _form: Fields) -> Response:
        offers.refresh(key)
        return _back(key, "tasks", "refreshing")


def _about_many_examples(router: APIRouter, access: Access, offers: Offers) -> None:
    Fields = Annotated[Form, Depends(access.act())]

    @router.post("/influence/preview")
    def preview(key: Key, form: Fields) -> Response:
        by, _, what = form.get("source", "").partition(":")
        offers.preview(key, _wish(PreviewWish, by=by, what=what))
        return _back(key, "influence", "previewing")

    @router.post("/influence/put-away")
    def put_away(key: Key, _form: Fields) -> Response:
        offers.put_away(key)
        return _back(key, "influence", "put-away")

    @router.post("/influence/acts")
    def take_out(key: Key, form: Fields) -> Response:
        wish = _wish(TakeOutWish, preview=form.get("preview"), unweighed=form.get("unweighed") == "yes")
        offers.take_out(key, wish)
        return _back(key, "influence", "taken-out")

    @router.post("/influence/acts/{act}/restore")
    def restore_act(key: Key, act: ActName, _form: Fields) -> Response:
        offers.restore_act(key, act)
        return _back(key, "influence", "taken-back")

    @router.post("/lost-labels/answer")
    def answer(key: Key, form: Fields) -> Response:
        chosen = {name.removeprefix("to-"): to or None for name, to in form.items() if name.startswith("to-")}
        wish = _wish(
            AnswerWish,
            target=form.get("target"),
            answer=form.get("answer"),
            to=form.get("to") or None,
            chosen=chosen or None,
        )
        offers.answer(key, wish)
        return _back(key, "lost-labels", "answered")

    @router.post("/lost-labels/take-back")
    def ask_again(key: Key, form: Fields) -> Response:
        offers.ask_again(key, _wish(TakeBackWish, target=form.get("target")))
        return _back(key, "lost-labels", "asked-again")


Wanted = TypeVar("Wanted", bound=BaseModel)


def _wish(kind: type[Wanted], **fields: object) -> Wanted:
    """What a form asks for, as the API would take it.

    Raises:
        BadRequest: if it is none that a page of ours can send.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        named = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"The form's field '{named}' cannot be used: {first['msg']}.") from error


def _back(key: str, page: str, done: str, form: Form | None = None) -> Response:
    """To the page that the form stood on, after it was done: so that reloading does nothing twice."""
    target = (form or {}).get("target", "")
    shown = f"target={quote(target, safe='')}&" if target else ""
    return RedirectResponse(f"/projects/{quote(key, safe='')}/{page}?{shown}done={done}", 303)
