"""Who a URL speaks to: scheme, host and port. The one place that decides it, so that no two readings can differ."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_NEVER_IN_AUTHORITY = re.compile(r"[\s\\@\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Origin:
    """Scheme, host (lower case, without brackets) and port of an address on the web."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Read an absolute `http` or `https` URL.

        Raises:
            ValueError: if it is none, or holds a user name, a backslash or white space before its path, which different
                programs read differently. The message does not repeat the URL, which may hold a signature.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError("it cannot be read") from None
        if parts.scheme not in _PORTS:
            raise ValueError("not an http or https address")
        if _NEVER_IN_AUTHORITY.search(parts.netloc):
            raise ValueError("user names, backslashes and white space are not accepted in an address")
        try:
            host, port = parts.hostname, parts.port
            host = host.encode("idna").decode("ascii") if host and not host.isascii() else host
        except ValueError:
            raise ValueError("its host or port cannot be read") from None
        if not host:
            raise ValueError("it names no host")
        return cls(parts.scheme, host.rstrip(".").lower(), _PORTS[parts.scheme] if port is None else port)

    @property
    def is_this_machine(self) -> bool:
        """Whether the host is a name or number of the loopback interface."""
        return self.host in {"localhost", "::1"} or re.fullmatch(r"127(\.\d{1,3}){3}", self.host) is not None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if _PORTS[self.scheme] == self.port else f":{self.port}")
