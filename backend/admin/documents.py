"""The API's documents: `/openapi.json` for programs, `/docs` for people; like all of the API not for everybody.

The page is Swagger UI, which browsers fetch from where FastAPI says; its policy allows just what the page names.
"""

import base64
import hashlib
import re
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from backend.admin.guard import guard
from backend.headers import policy
from backend.wiring import Backend

DOCUMENT = "/openapi.json"
_HOSTS = re.compile(r'(?:src|href)="(https://[^/"]+)')
_WITHIN = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def routes(backend: Backend, app: FastAPI) -> APIRouter:
    """Routes that document `app`, for whoever may use the admin API.

    A browser asks for a password by itself: `ADMIN_TOKEN`, under any name.
    """
    router = APIRouter(include_in_schema=False, dependencies=[Depends(guard(backend, browsers=True))])

    @router.get(DOCUMENT)
    def document() -> dict[str, Any]:
        return app.openapi()

    @router.get("/docs")
    def page() -> Response:
        shown = get_swagger_ui_html(openapi_url=DOCUMENT, title=app.title)
        return HTMLResponse(
            shown.body, headers={"Content-Security-Policy": _policy(bytes(shown.body).decode())}
        )

    return router


def _policy(page: str) -> str:
    """What this very page needs: the hosts that it names, and the one script that stands within it."""
    hosts = " ".join(sorted(set(_HOSTS.findall(page))))
    scripts = (
        base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in _WITHIN.findall(page)
    )
    return policy(
        script_src=" ".join(("'self'", hosts, *(f"'sha256-{each}'" for each in scripts))),
        style_src=f"'self' 'unsafe-inline' {hosts}",  # Swagger UI makes styles while it runs
        img_src=f"'self' data: {hosts}",
    )
