"""Bodies of requests: read within a limit, parsed where a large one holds nobody up; knows no route.

JSON can hold half a character (a lone surrogate, `"\\ud800"`), and Label Studio passes on what it was given. pydantic
refuses the whole body for it; here only what uses that text suffers: one task, one label, one field.
"""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

Model = TypeVar("Model", bound=BaseModel)

_HALF = re.compile("surrogate|hex escape")  # what the parser says of half a character, and of a damaged one


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
        try:
            return kind.model_validate_json(body or b"null")
        except ValidationError as error:
            if not _HALF.search(error.errors(include_url=False, include_input=False)[0]["msg"]):
                raise
            return kind.model_validate(_with_halves(body))
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
        return _with_halves(body) if _HALF.search(str(error)) else _refuse(error)


def _with_halves(body: bytes) -> Any:
    """A body that holds half a character; in names of fields it is replaced, since nothing here reads such a field."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_with_whole_names)
    except (ValueError, RecursionError) as error:
        return _refuse(error)


def _with_whole_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name.encode(errors="replace").decode(): value for name, value in pairs}


def _refuse(error: Exception) -> NoReturn:
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
