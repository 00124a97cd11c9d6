"""Which addresses of the network may be spoken to; connects to the very address that was checked. Knows no HTTP.

A name is resolved once and the connection goes to what was checked, so a name that is resolved anew to something
else (DNS rebinding) gains nothing.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from backend.errors import ImageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet, also where it hides an IPv4 address inside."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class CheckedNetwork(httpcore.NetworkBackend):
    """Opens connections for one download: to public addresses only, unless trusted, and only until its deadline.

    Args:
        trusted: whether any address will do: Label Studio's own origin, or one of ALLOWED_HOSTS.
        remaining: seconds left of the download's time.
    """

    def __init__(self, *, trusted: bool, remaining: Callable[[], float]) -> None:
        self._trusted = trusted
        self._remaining = remaining
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check and connect.

        Raises:
            ImageError: if the name is unknown, or leads to a private address.
            httpcore.ConnectError: if none of its addresses answers.
        """
        addresses = self._resolve(host, port)
        reachable = [address for address in addresses if self._trusted or is_public(address)]
        if not reachable:
            raise ImageError(
                f"{host} has a private address, which images may not come from.",
                remedy=f"If that is right, add {host} to ALLOWED_HOSTS.",
            )
        for address in reachable[:-1]:
            try:
                return self._connect(address, port, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect(reachable[-1], port, local_address, socket_options)

    def _connect(
        self, address: Address, port: int, local_address: str | None, options: Iterable[Any] | None
    ) -> httpcore.NetworkStream:
        left = _seconds_left(self._remaining, httpcore.ConnectTimeout)
        stream = self._sockets.connect_tcp(str(address), port, left, local_address, options)
        return _TimedStream(stream, self._remaining)

    def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise ImageError(f"The host {host} is not known.") from None
        return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


class _TimedStream(httpcore.NetworkStream):
    """A connection that gives up when the whole download's time is over, however slowly bytes drip in."""

    def __init__(self, stream: httpcore.NetworkStream, remaining: Callable[[], float]) -> None:
        self._stream = stream
        self._remaining = remaining

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _seconds_left(self._remaining, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _seconds_left(self._remaining, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _seconds_left(self._remaining, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._remaining)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _seconds_left(remaining: Callable[[], float], over: type[httpcore.TimeoutException]) -> float:
    """Seconds left; raises `over` where there are none."""
    left = remaining()
    if left <= 0:
        raise over
    return left
