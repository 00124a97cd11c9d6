"""Where a Redis is: an address as people write it to pools of connections; the only place that reads its password.

| address | meaning |
| --- | --- |
| `redis://[user:password@]host[:port][/db]` | TCP |
| `rediss://...` | the same through TLS; `?ssl_ca_certs=FILE`, and `_TLS_OPTIONS` |
| `unix://[user:password@]/path/of.sock[?db=N]` | a socket on this machine |
| `redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]` | the primary that the sentinels name |
| `rediss+sentinel://...` | the same, primary and sentinels through TLS |

User and password are those of the data's server; the sentinels' own are `?sentinel_username=` and
`?sentinel_password=`. Signs such as `@ : / # %` in a password are written as `%40` and so on. A Redis Cluster is not
supported: what is written together must be on one server.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from backend.errors import StoreError

CONNECT_SECONDS = 2.0
"""How long a connection may take to be made."""

ANSWER_SECONDS = 5.0
"""How long an answer may take."""

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_PORT, _SENTINEL_PORT = 6379, 26379
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)
_FORMS = (
    "Write redis://:PASSWORD@HOST:6379/0, rediss://..., unix:///PATH or redis+sentinel://HOST:26379,HOST:26379/SERVICE/0;"
    " signs such as @ : / # in a password as %40 %3A %2F %23."
)


def is_address(text: str) -> bool:
    """Whether a text is meant as the address of a Redis, not as a path."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


@dataclass(frozen=True)
class Address:
    """One Redis database.

    Attributes:
        shown: what people may see: without user, password and options.
        hosts: host and port of the server, or of the sentinels; empty for a socket.
        service: what the sentinels call it; "" where there are none.
        options: for the connections; with the password.
        sentinel_options: for those to the sentinels.
    """

    shown: str
    hosts: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any] = field(repr=False)
    sentinel_options: dict[str, Any] = field(repr=False)
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            StoreError: it is none; the text is not shown, since it may hold a password.
        """
        try:
            return cls._of(urlsplit(text.strip()))
        except ValueError:
            # Neither the text nor the reason: both may show a part of the password.
            raise StoreError("The address of Redis cannot be read.", remedy=_FORMS) from None

    @classmethod
    def _of(cls, url: SplitResult) -> Self:
        if url.scheme not in SCHEMES or url.fragment:
            raise ValueError("scheme")
        tls, by_sentinel = url.scheme.startswith("rediss"), url.scheme.endswith("sentinel")
        login, _, place = url.netloc.rpartition("@")
        options = _login(login)
        known = ("db", *(_SENTINEL_OPTIONS if by_sentinel else ()), *(_TLS_OPTIONS if tls else ()))
        query = _query(url.query, known)
        sentinel_options = {
            name.removeprefix("sentinel_"): query.pop(name) for name in _SENTINEL_OPTIONS if name in query
        }
        if url.scheme == "unix":
            options |= {"path": unquote(url.path), "db": int(query.pop("db", 0))}
            if place or not url.path:
                raise ValueError("path")
            return cls(f"unix://{url.path}?db={options['db']}", (), "", options | query, {})
        hosts = tuple(_host(one, _SENTINEL_PORT if by_sentinel else _PORT) for one in place.split(","))
        parts = [unquote(part) for part in url.path.split("/") if part]
        service, parts = (parts[0], parts[1:]) if by_sentinel and parts else ("", parts)
        options["db"] = int(query.pop("db", parts.pop(0) if parts else 0))
        if parts or bool(service) != by_sentinel or (not by_sentinel and len(hosts) > 1):
            raise ValueError("path")
        named = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
        shown = "/".join(filter(None, (f"{url.scheme}://{named}", service, str(options["db"]))))
        return cls(shown, hosts, service, options | query, sentinel_options | query, tls)

    def pool(self) -> ConnectionPool:
        """Connections to the database; shared by threads, made when needed, remade in a forked child.

        Nothing is repeated here: a repeated write could be done twice.
        """
        shared: dict[str, Any] = {
            "socket_timeout": ANSWER_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if not self.hosts:
            return ConnectionPool(UnixDomainSocketConnection, **shared, **self.options)
        shared |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True}
        if not self.service:
            host, port = self.hosts[0]
            kind = SSLConnection if self.tls else Connection
            return ConnectionPool(kind, host=host, port=port, **shared, **self.options)
        # A sentinel that does not answer must leave time for the others.
        asking = {**shared, "socket_timeout": CONNECT_SECONDS, "ssl": self.tls, **self.sentinel_options}
        sentinel = Sentinel(self.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]  # redis-py's
        made: ConnectionPool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            self.service, sentinel, ssl=self.tls, **shared, **self.options
        )
        return made


def _login(text: str) -> dict[str, Any]:
    user, _, password = text.partition(":")
    found = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in found.items() if value}


def _query(text: str, known: Collection[str]) -> dict[str, Any]:
    """Options after `?`; only those that cannot change what the store reads and writes."""
    found = {name: values[-1] for name, values in parse_qs(text, strict_parsing=bool(text)).items()}
    if not found.keys() <= set(known):
        raise ValueError("option")
    words = {"true": True, "false": False}
    return {name: words.get(value.lower(), value) for name, value in found.items()}


def _host(text: str, default_port: int) -> tuple[str, int]:
    place = urlsplit(f"//{text}")
    if not place.hostname or place.path or place.query or place.fragment:
        raise ValueError("host")
    return place.hostname, place.port or default_port
