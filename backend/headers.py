"""Headers that tell browsers to be careful, on every answer; knows no route.

Pages of this server take scripts, styles and data from this server only, and nothing that stands within the page; no
other page may frame them. A route that needs another rule sets the header itself, and is left alone.
"""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Mapping[str, str] = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
"""The Content-Security-Policy of every answer, by directive."""


def policy(**changes: str) -> str:
    """The policy as a header, with other sources for some directives (`script_src="'self' https://host"`)."""
    rules = {**POLICY, **{name.replace("_", "-"): sources for name, sources in changes.items()}}
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())


HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",  # what `frame-ancestors` says, for browsers that do not know it
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",  # answers tell of projects and people; files that may be kept say so themselves
}


class SecurityHeaders:
    """ASGI middleware that adds `HEADERS` to every answer that does not have its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
