"""Fetches one file over HTTP within limits of time, bytes and redirects; knows no pixels.

An address is sent byte for byte as it came (signatures cover it), and its query is never repeated in a log or an error.
"""

import logging
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import httpcore

from backend.errors import ImageError, Unreachable
from backend.images.addresses import CheckedNetwork
from backend.label_studio import LabelStudio, Origin
from backend.label_studio.connection import NOT_NOW, detail_of, not_now, unreachable

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))  # what may stand in a request line as it is
_ERROR_BYTES = 4096  # of an error's body, to say what it says


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[bytes, bytes]
    content: bytes


class Downloader:
    """Fetches files, with Label Studio's token from Label Studio's own origin and without any from elsewhere.

    Connects directly: proxies named in the environment are not used.

    Args:
        label_studio: gives the header for its own origin.
        allowed_hosts: `host` or `host:port`, lower case, that may have private addresses.
        max_bytes: more than so many are refused while they arrive.
        timeout: seconds for the whole of one download, redirects included.
        verify: how certificates are checked.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        label_studio: LabelStudio,
        allowed_hosts: Iterable[str],
        *,
        max_bytes: int,
        timeout: float,
        verify: ssl.SSLContext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label_studio = label_studio
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._max_bytes, self._timeout, self._verify, self._clock = max_bytes, timeout, verify, clock
        # At DEBUG httpcore writes the headers of answers, with signed addresses in `Location`.
        wire = logging.getLogger("httpcore")
        wire.setLevel(max(wire.level, logging.INFO))

    def fetch(self, url: str) -> bytes:
        """The file at `url`.

        Raises:
            ImageError: with what to do about it.
            LabelStudioError: if Label Studio refused the token or gave no answer.
        """
        deadline = self._clock() + self._timeout
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._ask(url, deadline)
            location = answer.headers.get(b"location")
            if answer.status not in _REDIRECTS or location is None:
                return self._accept(answer, url)
            url = _follow(url, location)
        raise ImageError(f"The image's address was redirected more than {MAX_REDIRECTS} times.")

    def _ask(self, url: str, deadline: float) -> _Answer:
        origin = _origin(url)
        header = self._label_studio.authorization(url)
        answer = self._send(url, origin, header, deadline)
        if (
            answer.status == 401
            and header
            and (newer := self._label_studio.renewed_authorization(url, header))
        ):
            answer = self._send(url, origin, newer, deadline)
        return answer

    def _send(self, url: str, origin: Origin, header: dict[str, str], deadline: float) -> _Answer:
        network = CheckedNetwork(trusted=self._is_trusted(origin), remaining=lambda: deadline - self._clock())
        host = str(origin).split("://", 1)[1]
        headers = {"Host": host, "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity", **header}
        address = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=_target(url))
        try:
            with (
                httpcore.ConnectionPool(ssl_context=self._verify, network_backend=network) as pool,
                pool.stream("GET", address, headers=[*headers.items(), ("Connection", "close")]) as response,
            ):
                answered = {name.lower(): value for name, value in response.headers}
                good = 200 <= response.status < 300
                content = (
                    self._read(response.iter_stream(), answered) if good else _start(response.iter_stream())
                )
                return _Answer(response.status, answered, content)
        except httpcore.TimeoutException:
            said = f"{origin} did not give the image within {self._timeout:g} s."
            remedy = "Look at the connection, or raise IMAGE_TIMEOUT."
            if str(origin) == self._label_studio.origin:
                raise Unreachable(said, remedy=remedy, slow=True) from None
            raise ImageError(said, remedy=remedy) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            if str(origin) == self._label_studio.origin:
                raise unreachable(origin, _reason(error)) from None
            raise ImageError(f"The image could not be fetched from {origin} ({_reason(error)}).") from None

    def _is_trusted(self, origin: Origin) -> bool:
        ours = str(origin) == self._label_studio.origin
        return ours or origin.host in self._allowed or f"{origin.host}:{origin.port}" in self._allowed

    def _read(self, stream: Iterable[bytes], headers: dict[bytes, bytes]) -> bytes:
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise self.too_large()
        content = bytearray()
        for part in _unpacked(stream, headers.get(b"content-encoding", b"").lower(), self._max_bytes):
            content += part
            if len(content) > self._max_bytes:
                raise self.too_large()
        return bytes(content)

    def too_large(self) -> ImageError:
        """What to say of a file over the limit."""
        return ImageError(
            f"The image file is larger than {self._max_bytes} bytes.",
            remedy="Raise MAX_IMAGE_BYTES, or make it smaller.",
        )

    def _accept(self, answer: _Answer, url: str) -> bytes:
        if 200 <= answer.status < 300:
            return answer.content
        origin = _origin(url)
        if str(origin) == self._label_studio.origin:
            raise self._refused_by_label_studio(answer, url)
        remedy = ""
        if answer.status in (400, 401, 403):
            remedy = (
                "A signed address may have expired, and no token is sent there: import the bucket's address (s3://, gs://,"
                " azure-blob://) through one of Label Studio's storages instead."
            )
        raise ImageError(f"{origin} answered {answer.status} instead of the image.", remedy=remedy)

    def _refused_by_label_studio(self, answer: _Answer, url: str) -> Exception:
        if answer.status in (401, 403):
            return self._label_studio.refusal(answer.status, detail_of(answer.content))
        if answer.status in NOT_NOW:
            return not_now(_origin(url), answer.status)
        path = _target(url).split("?")[0]
        remedy = ""
        if answer.status in (404, 500):  # 500 is its answer for an upload that it does not know
            remedy = (
                "Check that the project has a storage for this address, and that the file is there."
                if path.endswith(("/presign/", "/resolve/"))
                else "The file is gone, or no storage of the project serves it."
            )
        return ImageError(f"Label Studio answered {path} with {answer.status}.", remedy=remedy)


def _origin(url: str) -> Origin:
    try:
        return Origin.of(url)
    except ValueError as error:
        raise ImageError(f"The image's address cannot be used: {error}.") from None


def _target(url: str) -> str:
    """Path and query as they stand in the address; only what may not stand in a request line is quoted."""
    rest = url.split("://", 1)[1].split("#", 1)[0]
    cut = next((place for place, sign in enumerate(rest) if sign in "/?"), len(rest))
    target = rest[cut:]
    return quote(target if target.startswith("/") else "/" + target, safe=_PRINTABLE)


def _follow(url: str, location: bytes) -> str:
    try:
        there = location.decode("utf-8")
    except UnicodeDecodeError:
        there = location.decode("latin-1")
    try:
        return there if there.lower().startswith(("http://", "https://")) else urljoin(url, there)
    except ValueError:
        raise ImageError("The image's address was redirected to one that cannot be read.") from None


def _start(stream: Iterable[bytes]) -> bytes:
    content = b""
    for part in stream:
        content += part
        if len(content) >= _ERROR_BYTES:
            break
    return content[:_ERROR_BYTES]


def _unpacked(stream: Iterable[bytes], encoding: bytes, limit: int) -> Iterator[bytes]:
    """The body without its Content-Encoding, which some buckets apply though asked not to; never far over `limit`."""
    if encoding in (b"", b"identity"):
        yield from stream
        return
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise ImageError("The image is sent in an encoding that is not read.")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for packed in stream:
            yield unpack.decompress(packed, limit + 1)  # what it holds back is beyond the limit anyway
    except zlib.error:
        raise ImageError("The image's transfer encoding is damaged.") from None


def _reason(error: Exception) -> str:
    """Words without addresses: of certificates the reason, else the kind."""
    text = str(error)
    return "its certificate is not trusted" if "CERTIFICATE_VERIFY_FAILED" in text else type(error).__name__
