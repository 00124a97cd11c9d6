"""How requests are refused: who gives no password, and the one place where errors become status codes."""

import hmac
from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from backend import errors
from backend.headers import HEADERS
from backend.settings import Settings

STATUS_OF: Mapping[type[errors.BackendError], int] = {
    errors.BackendError: 500,
    errors.BadRequest: 422,
    errors.LabelConfigError: 422,
    errors.RegionError: 422,
    errors.ImageError: 422,
    errors.LabelStudioError: 502,
    errors.Unreachable: 502,
    errors.Unauthorized: 502,
    errors.StoreError: 503,
    errors.NotFound: 404,
    errors.Refused: 409,
}

_TOLD = 10  # of a body's mistakes


def basic_auth(settings: Settings) -> Callable[[Request], Awaitable[None]]:
    """A dependency that asks for BASIC_AUTH_USER and BASIC_AUTH_PASS, where they are set.

    It waits for nothing, not even for a thread: the body of a request whose sender has given up meanwhile could not be
    read after that, and Label Studio never sends an event again.
    """
    expected = [form.encode() for form in settings.basic_authorizations]

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if expected and not any(hmac.compare_digest(given, form) for form in expected):
            raise HTTPException(
                401,
                "User name and password are BASIC_AUTH_USER and BASIC_AUTH_PASS of the backend.",
                {"WWW-Authenticate": "Basic"},
            )

    return check


def explain_errors(app: FastAPI) -> None:
    """Answer errors with one sentence that names the field and the remedy."""

    @app.exception_handler(errors.BackendError)
    def explain(_request: Request, error: Exception) -> JSONResponse:
        status = next((STATUS_OF[kind] for kind in type(error).mro() if kind in STATUS_OF), 500)
        return JSONResponse({"detail": str(error)}, status_code=status)

    @app.exception_handler(Exception)  # answered outside of all middleware, and raised again for the log
    def explain_bug(_request: Request, _error: Exception) -> JSONResponse:
        said = {"detail": "Something is wrong in the backend itself; its log says what."}
        return JSONResponse(said, status_code=500, headers=dict(HEADERS))

    @app.exception_handler(400)  # FastAPI's own word for a body that is no text
    def explain_noise(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "body: It is no JSON in UTF-8."}, status_code=422)

    @app.exception_handler(RequestValidationError)
    def explain_body(_request: Request, error: Exception) -> JSONResponse:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        said = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in found[:_TOLD]]
        said += [f"and {len(found) - _TOLD} more"] if len(found) > _TOLD else []
        return JSONResponse({"detail": "; ".join(said)}, status_code=422)
