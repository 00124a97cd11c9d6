"""Who may use the admin API: the token's holder, or programs on this machine; never a foreign web page."""

import base64
import binascii
import contextlib
import hmac
import ipaddress
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from backend.wiring import Backend

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="ADMIN_TOKEN",
    description="The backend's `ADMIN_TOKEN`. Without that setting, only the backend's own machine may ask.",
)
_CHANGE_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def guard(backend: Backend, *, browsers: bool = False) -> Callable[..., None]:
    """A dependency that lets a request through or raises: 401 without the token, 403 from where it may not come.

    Args:
        backend: whose `ADMIN_TOKEN` is asked for.
        browsers: whether the token may also come as the password of a browser's own question for one. Only for what
            changes nothing: a browser sends such a password with whatever a foreign page makes it ask.


    A browser on this machine runs pages of anybody's. Such a page can send requests here, whose answers it cannot
    read: so what changes something must not come from another origin. And its host name can be made to mean this
    machine (DNS rebinding), whose answers it could read: so without a token, the request must name this machine.
    """
    expected = _as_sent(backend.settings.admin_token.get_secret_value())
    challenge = {"WWW-Authenticate": "Basic" if browsers else "Bearer"}

    def check(
        request: Request,
        _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None,
    ) -> None:
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        if request.method not in _CHANGE_NOTHING and origin is not None and not is_same(origin, host):
            raise HTTPException(
                403,
                "Web pages of another origin may change nothing here. A proxy must pass the Host header on.",
            )
        if expected:
            given = _token(request.headers.get("authorization", ""), browsers=browsers)
            if not any(hmac.compare_digest(given, form) for form in expected):
                raise HTTPException(
                    401,
                    "The admin API wants 'Authorization: Bearer <ADMIN_TOKEN>'.",
                    challenge,
                )
        elif not is_loopback(request.client.host if request.client else ""):
            raise HTTPException(403, "Set ADMIN_TOKEN to use the admin API from another machine.")
        elif not names_this_machine(host):
            raise HTTPException(
                403, "Without ADMIN_TOKEN the admin API is at http://localhost or a loopback address only."
            )

    return check


def _as_sent(token: str) -> list[bytes]:
    """The bytes that clients make of a token: UTF-8, or Latin-1 where that has all its letters; none of an empty one."""
    forms = [token.encode()] if token else []
    with contextlib.suppress(UnicodeEncodeError):
        forms += [token.encode("latin-1")] if token else []
    return forms


def _token(authorization: str, *, browsers: bool) -> bytes:
    """The token of a header: after `Bearer`, or the password after `Basic`; b"" where there is none."""
    kind, _, given = authorization.partition(" ")
    if kind.lower() == "bearer":
        return given.encode(
            "latin-1"
        ).strip()  # which headers are decoded by; spaces of Unicode are parts of letters
    if kind.lower() != "basic" or not browsers:
        return b""
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2].strip()
    except (binascii.Error, ValueError):
        return b""


def is_same(origin: str, host: str) -> bool:
    """Whether a page's origin ("https://studio:8080", "null") has the host and port that a request is for."""
    scheme, _, authority = origin.lower().partition("://")
    default = _DEFAULT_PORTS.get(scheme, "")
    return bool(authority) and authority.removesuffix(default) == host.lower().removesuffix(default)


def names_this_machine(host: str) -> bool:
    """Whether a `Host` header names this machine, so that no foreign name was made to mean it."""
    try:
        named = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return named == "localhost" or is_loopback(named)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
