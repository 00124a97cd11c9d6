"""The token sent to Label Studio: a legacy token as it is, a personal one exchanged and renewed; knows no requests.

A personal access token (from the account page) is a JWT that Label Studio accepts nowhere but at
`/api/token/refresh/`, which answers an access token valid for 300 s; the personal token itself does not change.
A legacy token (40 characters) is sent as it is, and a default install refuses it.
"""

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable

from pydantic import SecretStr

_EARLY = 0.2  # renewed when this share of its life is left ...
_EARLY_AT_MOST = 30.0  # ... or this many seconds, whichever is less
_UNKNOWN_LIFE = 60.0  # seconds for which a token that does not tell its life is used


class Credentials:
    """One user's token; thread-safe, exchanges once for all threads that wait.

    Args:
        key: personal or legacy token, or "" for none.
        exchange: personal token -> access token; raises what the caller of `header` should see.
        clock: monotonic seconds.
    """

    def __init__(
        self, key: SecretStr, exchange: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._key = key
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._access = ""
        self._renew_at = 0.0

    @property
    def given(self) -> bool:
        """Whether there is a token at all."""
        return bool(self._key.get_secret_value())

    @property
    def personal(self) -> bool:
        """Whether the token is a personal access token, known by its form."""
        return _claims(self._key.get_secret_value()) is not None

    @property
    def kind(self) -> str:
        """`personal`, `legacy` or `none`."""
        return "personal" if self.personal else "legacy" if self.given else "none"

    def header(self) -> dict[str, str]:
        """The Authorization header, empty where there is no token; exchanges or renews first where needed."""
        key = self._key.get_secret_value()
        if not key:
            return {}
        if not self.personal:
            return {"Authorization": f"Token {key}"}
        with self._lock:
            if self._clock() >= self._renew_at:
                self._renew()
            return {"Authorization": f"Bearer {self._access}"}

    def renewed(self, refused: dict[str, str]) -> dict[str, str]:
        """What to try after `refused` was answered with 401: a newer header, or {} where there is none."""
        if not self.given or not self.personal:
            return {}
        with self._lock:
            if refused == {"Authorization": f"Bearer {self._access}"}:
                self._renew()
            return {"Authorization": f"Bearer {self._access}"}

    def redact(self, text: str) -> str:
        """`text` without the tokens, should it repeat them."""
        for secret in (self._key.get_secret_value(), self._access):
            if secret:
                text = text.replace(secret, "***")
        return text

    def _renew(self) -> None:
        asked_at = self._clock()
        self._access = self._exchange(self._key.get_secret_value())
        life = _life(self._access)
        self._renew_at = asked_at + life - min(life * _EARLY, _EARLY_AT_MOST)

    def __repr__(self) -> str:
        return f"Credentials({self.kind})"


def _claims(token: str) -> dict[str, object] | None:
    """What a JWT says, unverified; None where the token is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _life(token: str) -> float:
    """Seconds for which an access token is valid, counted from its own issue: clocks of two machines may differ."""
    claims = _claims(token) or {}
    expires, issued = claims.get("exp"), claims.get("iat", time.time())
    if isinstance(expires, int | float) and isinstance(issued, int | float):
        return max(float(expires) - float(issued), 0.0)
    return _UNKNOWN_LIFE
