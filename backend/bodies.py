"""Bodies of requests: read within a limit, parsed where a large one holds nobody up; knows no route."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

Model = TypeVar("Model", bound=BaseModel)


def reader(limit: int) -> Callable[[Request], Awaitable[bytes]]:
    """A dependency that reads a request's body.

    Args:
        limit: largest body in bytes; a larger one is answered 413, and no more of it is read.
    """

    async def read(request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
        return bytes(body)

    return read


def parse(kind: type[Model], body: bytes) -> Model:
    """A body as the model that a route takes.

    Raises:
        RequestValidationError: if it is no JSON or does not fit; answered 422 with the field's name.
    """
    try:
        return kind.model_validate_json(body or b"null")
    except ValidationError as error:
        # Without the input, which may be large or secret.
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None


def parse_any(body: bytes) -> Any:
    """A body as plain JSON values; None for an empty one.

    Raises:
        RequestValidationError: if it is no JSON, or nested too deeply.
    """
    try:
        return from_json(body) if body else None
    except ValueError as error:
        said = {"type": "json_invalid", "loc": ("body",), "msg": f"Invalid JSON: {error}"}
        raise RequestValidationError([said]) from None


def documented(kind: type[BaseModel] | None = None) -> dict[str, Any]:
    """What OpenAPI is told of a body that the route reads by itself."""
    schema = kind.model_json_schema() if kind is not None else {"type": "object"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        413, f"The body is larger than {limit} bytes: MAX_BODY_BYTES, or send fewer tasks at once."
    )
