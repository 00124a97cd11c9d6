"""Who may use the page: as for the admin API, but by a cookie that a login form gives, and never by a foreign page.

With `ADMIN_TOKEN`, whoever knows it gets a session: a random cookie that scripts cannot read and foreign sites do not
send. Its hash, keyed with the token, is kept in the store, so that it holds in every replica, ends by logout, and dies
with the token. Without `ADMIN_TOKEN`, programs on this machine may come, as to the API.

What changes something must come from a page of this very origin, and carry a word that only such a page holds.
"""

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from backend import bodies
from backend.admin.guard import is_loopback, is_same, names_this_machine
from backend.page.rendering import LoginNeeded, PageRoute, render
from backend.store import Store
from backend.store.leases import held
from backend.wiring import Backend

log = logging.getLogger(__name__)

COOKIE = "seggpt_admin"
SESSION_SECONDS = 12 * 3600
WORD = "word"
"""The form field that only a page of ours can fill."""

_FORM_BYTES = 64 * 1024
_NOTE = "page:sessions"
_MOST = 100  # sessions at once; the oldest end
_HERE = re.compile(r"/(?:[A-Za-z0-9._~%?=&+-][A-Za-z0-9._~%?=&+/-]*)?")

Form = dict[str, str]


@dataclass(frozen=True)
class Visitor:
    """Who has been let in.

    Attributes:
        word: what forms must carry.
        logged_in: whether by token, so that logging out means something.
    """

    word: str
    logged_in: bool


class Sessions:
    """Who has logged in; what is kept tells nobody a cookie."""

    def __init__(self, store: Store, token: str) -> None:
        self._store = store
        self._token = token.encode()

    def begin(self) -> str:
        """A new session's cookie."""
        cookie = secrets.token_urlsafe(32)
        self._change(lambda known: {**known, self._digest(cookie): time.time() + SESSION_SECONDS})
        return cookie

    def holds(self, cookie: str) -> bool:
        """Whether a cookie is of a session that has not ended."""
        return bool(cookie) and self._known().get(self._digest(cookie), 0.0) > time.time()

    def end(self, cookie: str) -> None:
        """End a session; unknown ones are ignored."""
        gone = self._digest(cookie)
        self._change(lambda known: {digest: until for digest, until in known.items() if digest != gone})

    def _digest(self, cookie: str) -> str:
        return hmac.new(self._token, cookie.encode(), hashlib.sha256).hexdigest()

    def _known(self) -> dict[str, float]:
        known: dict[str, float] = json.loads(self._store.note(_NOTE) or "{}")
        return known

    def _change(self, change: Callable[[dict[str, float]], dict[str, float]]) -> None:
        busy = "Somebody else logs in or out at this moment; try again."
        with held(self._store, f"changing:{_NOTE}", busy):
            now = time.time()
            staying = {digest: until for digest, until in self._known().items() if until > now}
            newest = sorted(change(staying).items(), key=lambda item: item[1])[-_MOST:]
            self._store.set_note(_NOTE, json.dumps(dict(newest)))


class Access:
    """Lets requests to the page through or turns them away."""

    def __init__(self, backend: Backend) -> None:
        self._token = backend.settings.admin_token.get_secret_value()
        self._sessions = Sessions(backend.store, self._token)
        self._own = secrets.token_urlsafe(32)  # where there are no sessions: forms are good until a restart

    def visit(self, request: Request) -> Visitor:
        """A dependency of what only shows something.

        Raises:
            LoginNeeded: if `ADMIN_TOKEN` is set and the request is of no session.
            HTTPException: 403 from where it may not come.
        """
        if self._token:
            cookie = request.cookies.get(COOKIE, "")
            if not self._sessions.holds(cookie):
                raise LoginNeeded(_login(request))
            return Visitor(_word(cookie), logged_in=True)
        if not is_loopback(request.client.host if request.client else ""):
            raise HTTPException(403, "Set ADMIN_TOKEN to use this page from another machine.")
        if not names_this_machine(request.headers.get("host", "")):
            raise HTTPException(
                403, "Without ADMIN_TOKEN this page is at http://localhost or a loopback address only."
            )
        return Visitor(_word(self._own), logged_in=False)

    def act(self) -> Callable[..., Form]:
        """A dependency of what changes something: the form's fields.

        Raises (when called): as `visit`; 403 where the form is not from a page of ours.
        """

        def check(
            request: Request,
            form: Annotated[Form, Depends(_form)],
            visitor: Annotated[Visitor, Depends(self.visit)],
        ) -> Form:
            _from_here(request)
            if not hmac.compare_digest(form.get(WORD, "").encode(), visitor.word.encode()):
                raise HTTPException(
                    403, "This form is too old, or not ours. Go back, reload the page, try again."
                )
            return form

        return check

    def _knows(self, given: str) -> bool:
        """Whether it is the token, whatever spaces were pasted around it."""
        return hmac.compare_digest(given.strip().encode(), self._token.encode())

    def routes(self) -> APIRouter:
        """Logging in and out."""
        router = APIRouter(route_class=PageRoute)

        @router.get("/login")
        def show_login(next: str = "/") -> Response:  # noqa: A002 - the address bar's word
            if not self._token:
                return RedirectResponse(_here(next), 303)
            return render("login.html", next=_here(next), wrong=False)

        @router.post("/login")
        def log_in(request: Request, form: Annotated[Form, Depends(_form)]) -> Response:
            _from_here(request)
            to = _here(form.get("next", "/"))
            if not self._token:
                return RedirectResponse(to, 303)
            if not self._knows(form.get("token", "")):
                log.warning(
                    "a login with a wrong token, from %a", request.client.host if request.client else "?"
                )
                return render("login.html", status=401, next=to, wrong=True)
            answer = RedirectResponse(to, 303)
            answer.set_cookie(
                COOKIE,
                self._sessions.begin(),
                max_age=SESSION_SECONDS,
                httponly=True,
                samesite="strict",
                # A proxy may not say how it was asked; the browser does.
                secure="https" in (request.url.scheme, request.headers["origin"].partition("://")[0]),
            )
            return answer

        @router.post("/logout")
        def log_out(request: Request, _form: Annotated[Form, Depends(self.act())]) -> Response:
            self._sessions.end(request.cookies.get(COOKIE, ""))
            answer = RedirectResponse("/login" if self._token else "/", 303)
            answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
            return answer

        return router


def _login(request: Request) -> str:
    """Where to log in, to come back to what was asked for."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return "/login?next=" + quote(path if request.method == "GET" else "/", safe="")


def _word(secret: str) -> str:
    return hmac.new(secret.encode(), b"a form of the admin page", hashlib.sha256).hexdigest()


def _from_here(request: Request) -> None:
    """Whether a form was sent by a page of this origin; every browser says so."""
    if not is_same(request.headers.get("origin", ""), request.headers.get("host", "")):
        raise HTTPException(
            403, "Only pages of this very address may change something. A proxy must pass the Host header on."
        )


def _form(body: Annotated[bytes, Depends(bodies.reader(_FORM_BYTES))]) -> Form:
    """The fields of a form; of several with one name the last."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise HTTPException(422, "This is no form.") from None


def _here(path: str) -> str:
    """A path of this page, whatever a link says."""
    return path if _HERE.fullmatch(path) else "/"
