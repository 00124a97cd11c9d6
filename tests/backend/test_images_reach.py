"""Where images may come from, and how much of them: nothing that a task names may reach further."""

import gzip
import io
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Callable
from typing import Any

import httpcore
import numpy as np
import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import ImageLoader
from backend.images.addresses import is_public
from backend.images.download import MAX_REDIRECTS, Downloader
from backend.label_studio import LabelStudio
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import Answer, FakeBucket

LOOPBACK = ("127.0.0.1",)


def png(size: tuple[int, int] = (6, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, "PNG")
    return file.getvalue()


def loader_of(fake: FakeLabelStudio, **options: Any) -> ImageLoader:
    return ImageLoader(LabelStudio(fake.url, fake.legacy_token), **options)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1",
        "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fec0::1", "fc00::1",
        "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "64:ff9b::7f00:1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_the_open_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST.", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "[::1]"],
)
def test_a_private_address_is_refused_however_it_is_written(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket, host: str
) -> None:
    bucket.put("/a.png", png())
    port = bucket.url.rpartition(":")[2]
    with pytest.raises(ImageError, match=r"private address|is not known") as caught:
        loader_of(fake_label_studio).open(f"http://{host}:{port}/a.png")
    assert bucket.requests == []
    assert "add" in caught.value.remedy or "not known" in str(caught.value)


def test_allowed_hosts_and_label_studios_origin_may_be_private(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    url = bucket.put("/a.png", png())
    port = url.split(":")[2].split("/")[0]
    for allowed in ("127.0.0.1", f"127.0.0.1:{port}"):
        assert loader_of(fake_label_studio, allowed_hosts=[allowed]).open(url).shape == (4, 6, 3)
    for allowed in ("127.0.0.2", "127.0.0.1:1", "", "localhost"):
        with pytest.raises(ImageError, match=r"add 127\.0\.0\.1 to ALLOWED_HOSTS"):
            loader_of(fake_label_studio, allowed_hosts=[allowed]).open(url)


def test_a_redirect_to_a_private_address_is_refused_even_from_label_studio(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    inner = bucket.put("/inner.png", png())
    fake_label_studio.uploads["/data/upload/1/a.png"] = Answer(302, b"", {"Location": inner})
    with pytest.raises(ImageError, match="private address"):
        loader_of(fake_label_studio).open("/data/upload/1/a.png")
    assert bucket.requests == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://example.com/a", "gopher://127.0.0.1/", "data:,a"]
)
def test_a_redirect_leads_to_the_web_only(fake_label_studio: FakeLabelStudio, location: str) -> None:
    fake_label_studio.uploads["/data/upload/1/a.png"] = Answer(302, b"", {"Location": location})
    with pytest.raises(ImageError, match="not an http or https address"):
        loader_of(fake_label_studio).open("/data/upload/1/a.png")


def test_redirects_are_followed_five_times_and_no_further(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    bucket.put("/0", png())
    for step in range(1, MAX_REDIRECTS + 2):
        bucket.put(f"/{step}", b"", 307, Location=f"{step - 1}")
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK)
    assert images.open(f"{bucket.url}/{MAX_REDIRECTS}").shape == (4, 6, 3)
    with pytest.raises(ImageError, match="more than 5 times"):
        images.open(f"{bucket.url}/{MAX_REDIRECTS + 1}")
    circle = bucket.put("/circle", b"", 302, Location="/circle")
    with pytest.raises(ImageError, match="more than 5 times"):
        images.open(circle)


def test_the_token_does_not_follow_a_redirect_away_and_comes_back_on_the_way_home(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    fake_label_studio.uploads["/data/upload/1/home.png"] = Answer(200, png())
    back = bucket.put("/back", b"", 302, Location=f"{fake_label_studio.url}/data/upload/1/home.png")
    fake_label_studio.uploads["/data/upload/1/a.png"] = Answer(302, b"", {"Location": back})
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK)
    assert images.open("/data/upload/1/a.png").shape == (4, 6, 3)
    assert [request.authorization for request in bucket.requests] == [None]
    assert fake_label_studio.asked("/data/upload/1/home.png")[0].authorization


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    fake_label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a name that resolves to a public address once, and to this machine when asked again."""
    answers = ["93.184.216.34", "127.0.0.1", "127.0.0.1"]
    resolved: list[str] = []
    connected: list[str] = []

    def resolve(host: str, port: int, **options: Any) -> list[Any]:
        resolved.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[len(resolved) - 1], port))]

    def connect(self: object, host: str, *options: Any) -> Any:
        connected.append(host)
        raise httpcore.ConnectError

    monkeypatch.setattr("backend.images.addresses.socket.getaddrinfo", resolve)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    images = loader_of(fake_label_studio)
    with pytest.raises(ImageError, match="could not be fetched"):
        images.open("http://rebind.example/a.png")
    assert (resolved, connected) == (["rebind.example"], ["93.184.216.34"])
    with pytest.raises(ImageError, match="private address"):
        images.open("http://rebind.example/a.png")
    assert connected == ["93.184.216.34"]


def test_of_several_addresses_the_private_ones_are_left_out_and_the_others_tried_in_turn(
    fake_label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ["10.0.0.1", "8.8.8.8", "::1", "9.9.9.9"]
    connected: list[str] = []

    def connect(self: object, host: str, port: int, timeout: float, *options: Any) -> Any:
        assert 0 < timeout <= 20
        connected.append(host)
        raise httpcore.ConnectTimeout

    monkeypatch.setattr(
        "backend.images.addresses.socket.getaddrinfo",
        lambda host, port, **options: [(0, 0, 0, "", (address, port)) for address in found],
    )
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    with pytest.raises(ImageError, match="within 20 s"):
        loader_of(fake_label_studio).open("http://several.example/a.png")
    assert connected == ["8.8.8.8", "9.9.9.9"]


def test_a_file_is_refused_once_it_is_over_the_limit(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK, max_bytes=1000)
    assert images.open(bucket.put("/small.png", png())).shape == (4, 6, 3)
    lies = bucket.put("/lies.png", b"a" * 2000, Content_Length="2000")
    silent = bucket.put(
        "/silent.png", b"7d0\r\n" + b"a" * 2000 + b"\r\n0\r\n\r\n", Transfer_Encoding="chunked"
    )
    for url in (lies, silent):
        with pytest.raises(ImageError, match="larger than 1000 bytes") as caught:
            images.open(url)
        assert "MAX_IMAGE_BYTES" in caught.value.remedy


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)]
)
def test_a_packed_transfer_is_unpacked_within_the_limit(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK, max_bytes=1000)
    assert images.open(bucket.put("/a.png", pack(png()), Content_Encoding=encoding)).shape == (4, 6, 3)
    bomb = pack(bytes(1_000_000))
    assert len(bomb) < 1500
    with pytest.raises(ImageError, match="larger than 1000 bytes"):
        images.open(bucket.put("/bomb.png", bomb[:1000], Content_Encoding=encoding))
    with pytest.raises(ImageError, match="encoding is damaged"):
        images.open(bucket.put("/damaged.png", b"abc", Content_Encoding=encoding))
    with pytest.raises(ImageError, match="encoding that is not read"):
        images.open(bucket.put("/other.png", b"abc", Content_Encoding="br"))


def test_the_size_in_pixels_is_limited(fake_label_studio: FakeLabelStudio, bucket: FakeBucket) -> None:
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK, max_pixels=100)
    assert images.open(bucket.put("/a.png", png((10, 10)))).shape == (10, 10, 3)
    with pytest.raises(ImageError, match="11 x 10 pixels, more than 100"):
        images.open(bucket.put("/b.png", png((11, 10))))


def test_the_limit_may_be_above_pillows_own(fake_label_studio: FakeLabelStudio) -> None:
    loader_of(fake_label_studio, max_pixels=400_000_000)
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS >= 400_000_000


class Dripping(httpcore.NetworkBackend, httpcore.NetworkStream):
    """A server that sends one byte a second: each comes in time, only the sum does not."""

    def __init__(self) -> None:
        self.now = 0.0

    def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        return self

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        assert timeout == 30 - self.now
        self.now += 1
        return b"a" if self.now > 1 else b"HTTP/1.1 200 OK\r\n\r\n"

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        assert timeout == 30

    def close(self) -> None:
        pass


def test_bytes_that_drip_in_are_cut_off_when_the_whole_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Dripping()
    monkeypatch.setattr(httpcore, "SyncBackend", lambda: server)
    context = ssl.create_default_context()
    download = Downloader(
        LabelStudio(), LOOPBACK, max_bytes=10**6, timeout=30, verify=context, clock=lambda: server.now
    )
    with pytest.raises(ImageError, match="within 30 s") as caught:
        download.fetch("http://127.0.0.1/a.png")
    assert "IMAGE_TIMEOUT" in caught.value.remedy
    assert server.now == 30


def test_a_server_that_does_not_answer_is_given_up(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    url = bucket.put("/a.png", png())
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK, timeout=0.2)
    with bucket.lock, pytest.raises(ImageError, match=r"did not give the image within 0\.2 s"):
        images.open(url)
    assert np.array_equal(
        loader_of(fake_label_studio, allowed_hosts=LOOPBACK).open(url), np.full((4, 6, 3), 90)
    )


def test_a_server_that_speaks_no_tls_is_said_to(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    url = bucket.put("/a.png", png()).replace("http:", "https:")
    with pytest.raises(ImageError, match=r"could not be fetched from https://127"):
        loader_of(fake_label_studio, allowed_hosts=LOOPBACK).open(url)


def test_a_host_that_nobody_knows_is_said(fake_label_studio: FakeLabelStudio) -> None:
    with pytest.raises(ImageError, match=r"nobody\.invalid is not known"):
        loader_of(fake_label_studio).open("http://nobody.invalid/a.png")


@pytest.mark.parametrize("location", ["//[half", "http://[half", "//user:password@example.com/"])
def test_a_redirect_that_cannot_be_read_is_an_image_error(
    fake_label_studio: FakeLabelStudio, location: str
) -> None:
    fake_label_studio.uploads["/data/upload/1/a.png"] = Answer(302, b"", {"Location": location})
    with pytest.raises(ImageError, match=r"cannot be (read|used)") as caught:
        loader_of(fake_label_studio).open("/data/upload/1/a.png")
    assert "password" not in str(caught.value)
