"""Templates to pages: everything that comes from outside is escaped; errors become pages too."""

import hashlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backend import __version__
from backend.errors import BackendError
from backend.refusals import STATUS_OF

_HERE = Path(__file__).parent
_MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {
    path.name: path.read_bytes() for path in sorted((_HERE / "static").iterdir()) if path.suffix in _MEDIA
}
_AS_THEY_ARE = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:12]

LEFT = _FILES["left.svg"]
"""An SVG in place of the picture of an example that is in no pool any more."""

# A form must say where it comes from, also where the page's own referrer is nobody's business.
_HEADERS = {"Referrer-Policy": "same-origin"}


class LoginNeeded(Exception):
    """Whoever asks has to log in first, at an address that leads back."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page made of a template of `templates/`."""
    return HTMLResponse(_TEMPLATES.get_template(template).render(**values), status, _HEADERS)


def statics() -> APIRouter:
    """Style, script and icon; their addresses change with what they say, so browsers may keep them."""
    router = APIRouter(route_class=PageRoute)

    @router.get("/static/{name}")
    def file(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404, "There is no such file.")
        keep = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(_FILES[name], media_type=_MEDIA[Path(name).suffix], headers=keep)

    return router


class PageRoute(APIRoute):
    """A route whose errors are pages for people."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with errors turned into pages."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except LoginNeeded as needed:
                return RedirectResponse(needed.address, 303)
            except (BackendError, HTTPException, RequestValidationError) as error:
                return _problem(error)

        return handle


def _problem(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        status, said = error.status_code, str(error.detail)
    elif isinstance(error, RequestValidationError):
        status, said = 404, "There is no such page."
    else:
        status = next((STATUS_OF[kind] for kind in type(error).mro() if kind in STATUS_OF), 500)
        said = str(error)
    return render("problem.html", status=status, code=status, said=said)


# -- what templates can say ----------------------------------------------------------------------------------------
def moment(seconds: float | str | None) -> str:
    """A time for people, to the minute: Unix seconds, or ISO 8601 as Label Studio writes it."""
    if not seconds:
        return "never"
    if isinstance(seconds, str):
        try:
            then = datetime.fromisoformat(seconds)
        except ValueError:
            return seconds[:16]
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
    else:
        then = datetime.fromtimestamp(seconds, UTC)
    return f"{then.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def share(value: float | None, digits: int = 2) -> str:
    """An IoU or a share; a dash where it was not measured."""
    return "–" if value is None else f"{value:.{digits}f}"  # noqa: RUF001 - a dash for people


def percent(value: float | None) -> str:
    """A share in percent."""
    return "–" if value is None else f"{100 * value:.1f} %"  # noqa: RUF001 - a dash for people


def signed(value: float | None) -> str:
    """A change, with its sign."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")  # noqa: RUF001 - a dash, a minus


def duration(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "–"  # noqa: RUF001 - a dash for people
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(moment=moment, share=share, percent=percent, signed=signed, duration=duration)
_TEMPLATES.globals.update(version=__version__, files=_AS_THEY_ARE)
