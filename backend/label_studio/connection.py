"""Who is asked, with which token, how often, and what counts as an error; knows no single route but the tokens'.

Facts below were measured against Label Studio 1.23.2.
"""

import json
import re
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from pydantic import SecretStr

from backend.errors import LabelStudioError, Unauthorized, Unreachable
from backend.label_studio.credentials import Credentials
from backend.label_studio.origin import Origin
from backend.label_studio.trouble import Trouble, is_outage
from backend.settings import is_sendable

NOT_NOW = (502, 503, 504)
"""Said by what stands before Label Studio, or while it starts or has too much to do."""

_TOO_LARGE = "A proxy before it takes no request so large: raise its limit (nginx: client_max_body_size)."
_BACK_OFF = (0.2, 0.8)  # seconds before the second and the third try
_REFRESH = "/api/token/refresh/"
_HOW_TO_GET_ONE = (
    "Make a personal access token on Label Studio's account page and give it in LABEL_STUDIO_API_KEY"
    " (or, for a legacy token, let the organization's settings allow legacy tokens)."
)


@dataclass(frozen=True)
class _Held:
    """Address and token that belong together: swapped as one, so that no token meets another's address."""

    url: str
    origin: Origin | None
    credentials: Credentials


class Connection:
    """One Label Studio and the user whose token we hold; safe to use from several threads.

    Connects directly: proxies named in the environment are not used. `SSL_CERT_FILE` names private certificates.

    Args:
        url: where Label Studio is; "" where only `learn_from_setup` tells.
        api_key: personal or legacy token; None or "" for none.
        timeout: seconds for one answer; exports may take twelve times as long.
        verify: how certificates are checked.
        clock: monotonic seconds, for the life of access tokens.
        sleep: waits before a repeated request.
        tells: whether the log is told when an outage begins and ends, as suits what runs for long.

    Attributes:
        certificates: how certificates are checked, for whoever fetches with this token.
        trouble: the outage that lasts now, if any.
    """

    def __init__(
        self,
        url: str = "",
        api_key: SecretStr | str | None = None,
        *,
        timeout: float = 10.0,
        verify: ssl.SSLContext | bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        tells: bool = False,
    ) -> None:
        self._key = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key or "")
        self._clock, self._sleep, self._timeout = clock, sleep, timeout
        self.certificates = httpx.create_ssl_context(verify)
        self._client = httpx.Client(
            timeout=timeout, verify=self.certificates, trust_env=False, follow_redirects=False
        )
        self._close = weakref.finalize(self, self._client.close)
        self.trouble = Trouble(clock, tells=tells)
        self._lock = threading.Lock()
        self._given_url = url.rstrip("/")
        self._held = self._hold(self._given_url, self._key)
        self._learned = ("", "")
        self._alias: Origin | None = None

    @property
    def configured(self) -> bool:
        """Whether an address is known."""
        return self._held.origin is not None

    @property
    def url(self) -> str:
        """Label Studio's address, without a slash at its end; "" where none is known."""
        return self._held.url

    @property
    def origin(self) -> str:
        """Scheme, host and port, e.g. `http://localhost:8080`; "" where no address is known."""
        return str(self._held.origin or "")

    @property
    def token_kind(self) -> str:
        """`personal`, `legacy` or `none`."""
        return self._held.credentials.kind

    def learn_from_setup(self, hostname: str, access_token: str) -> None:
        """Take address and token from `/setup` where the environment gives none.

        A learned token is only ever sent to the address that it came with, or to the environment's. A token of the
        environment goes to a learned address only where that is this machine, since anyone may post to an open
        `/setup`. `access_token` is always the legacy token of the project's creator, which a default install refuses.
        `hostname` is remembered as another name of this Label Studio, see `reach`.
        """
        self._alias = _origin(hostname) or self._alias
        access_token = access_token if is_sendable(access_token) else ""
        if self._given_url and self._key.get_secret_value():
            return
        with self._lock:
            if (hostname, access_token) == self._learned:
                return
            url = self._given_url or hostname.rstrip("/")
            origin = _origin(url)
            if origin is None:
                return
            keep_key = bool(self._key.get_secret_value()) and origin.is_this_machine
            self._held = self._hold(url, self._key if keep_key else SecretStr(access_token))
            self._learned = (hostname, access_token)

    def reach(self, url: str) -> str:
        """Where this backend finds what task data calls `url`.

        A path is completed with Label Studio's address. An address at the name that Label Studio gives itself in
        `/setup` (right for browsers, often wrong inside containers) is asked at the address we know. All others stay as
        they are, byte for byte.

        Raises:
            Unreachable: if it is a path and no address is known.
        """
        held = self._held
        if re.match(r"[a-z][a-z0-9+.-]*:", url, re.IGNORECASE):
            origin = _origin(url)
            if origin is None or held.origin is None or origin != self._alias or origin == held.origin:
                return url
            url = re.sub(r"^[a-z]+://[^/?#]*", "", url, flags=re.IGNORECASE)
        if held.origin is None:
            raise _nowhere()
        below = held.url.split("://", 1)[1].partition("/")[2]
        at_root = below and url.startswith(f"/{below}/")
        return (
            (held.url.removesuffix(f"/{below}") if at_root else held.url)
            + ("" if url.startswith("/") else "/")
            + url
        )

    def authorization(self, url: str) -> dict[str, str]:
        """The header for a request to `url`: {} for any origin but Label Studio's own.

        Raises:
            Unauthorized: if the personal token is refused.
            Unreachable: if it must be exchanged and Label Studio does not answer.
        """
        held = self._held
        if not _same(held.origin, url):
            return {}
        try:
            return held.credentials.header()
        except LabelStudioError as error:
            if is_outage(error):
                self.trouble.met(error)
            raise

    def renewed_authorization(self, url: str, refused: Mapping[str, str]) -> dict[str, str]:
        """The header to try once more after `refused` was answered with 401; {} where there is no other."""
        held = self._held
        return held.credentials.renewed(dict(refused)) if _same(held.origin, url) else {}

    def refusal(self, status: int, detail: str = "") -> Unauthorized:
        """What to say of a 401 or 403."""
        credentials = self._held.credentials
        if not credentials.given:
            return Unauthorized(
                "Label Studio wants a token, and there is none.", remedy=_HOW_TO_GET_ONE, status=status
            )
        said = credentials.redact(detail).strip().rstrip(".")
        said = f": {said}." if said else "."
        if status == 403:
            remedy = "Use the token of a user who may see the project."
            return Unauthorized(
                f"Label Studio forbids this to the token's user{said}", remedy=remedy, status=status
            )
        message = f"Label Studio refused the {credentials.kind} token{said}"
        return Unauthorized(message, remedy=_HOW_TO_GET_ONE, status=status)

    def close(self) -> None:
        """Close the connections; happens by itself when nobody uses this any more."""
        self._close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.origin!r}, token={self.token_kind})"

    # -- one request ---------------------------------------------------------------------------------------------
    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Ask one thing; returns the JSON of the answer, {} where it is empty.

        A GET is tried three times where the connection fails or the answer is a 5xx; a refused token is renewed once.

        Raises:
            Unreachable: if there was no answer.
            Unauthorized: upon 401 and 403.
            LabelStudioError: upon any other status but 2xx, or an answer that is not JSON.
        """
        held = self._held
        with self._watched():
            header = held.credentials.header()
            response = self._send(held.url, method, path, header, query=query, body=body, timeout=timeout)
            if response.status_code == 401 and (newer := held.credentials.renewed(header)):
                response = self._send(held.url, method, path, newer, query=query, body=body, timeout=timeout)
            return self._read(response, path)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note whether Label Studio can be worked with."""
        try:
            yield
        except LabelStudioError as error:
            if is_outage(error):
                self.trouble.met(error)
            else:
                self.trouble.over()
            raise
        self.trouble.over()

    def _hold(self, url: str, key: SecretStr) -> _Held:
        credentials = Credentials(key, partial(self._exchange, url), self._clock)
        return _Held(url, Origin.of(url) if url else None, credentials)

    def _exchange(self, url: str, personal: str) -> str:
        response = self._send(url, "POST", _REFRESH, {}, body={"refresh": personal})
        if response.status_code in (400, 401, 403):
            raise Unauthorized(
                "Label Studio refused the personal token: it was revoked, has expired or is another Label Studio's.",
                remedy=_HOW_TO_GET_ONE,
                status=response.status_code,
            )
        answer = self._read(response, _REFRESH)
        access = answer.get("access") if isinstance(answer, dict) else None
        if not isinstance(access, str):
            raise LabelStudioError("Label Studio gave no access token for the personal one.")
        return access

    def _send(
        self,
        url: str,
        method: str,
        path: str,
        header: dict[str, str],
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        if not url:
            raise _nowhere()
        request = self._client.build_request(
            method,
            url + path,
            params=dict(query or {}),
            json=body,
            headers=header,
            timeout=timeout or self._timeout,
        )
        for wait in _BACK_OFF:
            try:
                response = self._client.send(request)
            except httpx.TransportError as error:
                if not _repeatable(method, error):
                    raise _unreachable(url, method, path, error) from None
            else:
                if response.status_code < 500 or method != "GET":
                    return response
            self._sleep(wait)
        try:
            return self._client.send(request)
        except httpx.TransportError as error:
            raise _unreachable(url, method, path, error) from None

    def _read(self, response: httpx.Response, path: str) -> Any:
        status = response.status_code
        if status in (401, 403):
            raise self.refusal(status, detail_of(response.content))
        if 300 <= status < 400:
            remedy = "Set LABEL_STUDIO_URL to the address that the browser shows."
            raise LabelStudioError(
                f"Label Studio answered {path} with a redirect.", remedy=remedy, status=status
            )
        if status in NOT_NOW:
            raise not_now(self.origin, status)
        if status >= 400:
            said = self._held.credentials.redact(detail_of(response.content)).rstrip(".")
            message = f"Label Studio answered {path} with {status}{f': {said}' if said else ''}."
            raise LabelStudioError(message, remedy=_TOO_LARGE if status == 413 else "", status=status)
        if not response.content:
            return {}
        try:
            return response.json()
        except ValueError:
            remedy = "Check LABEL_STUDIO_URL: what answers there is not Label Studio's API."
            raise LabelStudioError(
                f"The answer to {path} is not JSON.", remedy=remedy, status=status
            ) from None


def detail_of(body: bytes) -> str:
    """What an error answer of Label Studio says, one short line; "" where it is not JSON."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(answer, dict):
        return ""
    detail = answer.get("validation_errors") or answer.get("detail") or ""
    return " ".join(str(detail).split())[:200]


def _origin(url: str) -> Origin | None:
    try:
        return Origin.of(url)
    except ValueError:
        return None


def _same(origin: Origin | None, url: str) -> bool:
    return origin is not None and _origin(url) == origin


def _nowhere() -> Unreachable:
    remedy = "Set LABEL_STUDIO_URL, or connect the backend to a project."
    return Unreachable("It is not known where Label Studio is.", remedy=remedy)


def _repeatable(method: str, error: httpx.TransportError) -> bool:
    """A time-out is not repeated: it has cost enough; what may have been carried out is not either."""
    return not isinstance(error, httpx.TimeoutException) and (
        method == "GET" or isinstance(error, httpx.ConnectError)
    )


def unreachable(origin: Origin, why: str) -> Unreachable:
    """What to say where there is no connection, or none that lasts."""
    return Unreachable(
        f"Label Studio at {origin} cannot be reached ({why}).",
        remedy="Check that it runs and that LABEL_STUDIO_URL is right as seen from the backend.",
    )


def not_now(origin: Origin | str, status: int) -> Unreachable:
    """What to say of an answer that is about this moment only, see `NOT_NOW`."""
    return Unreachable(
        f"Label Studio at {origin} answers {status} for now.",
        remedy="It may be starting, or have too much to do: see its log.",
        status=status,
    )


def _unreachable(url: str, method: str, path: str, error: httpx.TransportError) -> Unreachable:
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(
            f"Label Studio did not answer {method} {path} in time.",
            remedy="See whether it has too much to do.",
            slow=True,
        )
    return unreachable(Origin.of(url), type(error).__name__)
