import base64
import io
import logging
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from backend.errors import ImageError, Unauthorized, Unreachable
from backend.images import ImageLoader
from backend.label_studio import LabelStudio
from tests.backend.fake_label_studio import FakeLabelStudio
from tests.backend.loopback import Answer, FakeBucket

LOOPBACK = ("127.0.0.1",)


def png(grey: int = 90, size: tuple[int, int] = (6, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, grey).save(file, "PNG")
    return file.getvalue()


def loader_of(fake: FakeLabelStudio, token: str | None = None, **options: Any) -> ImageLoader:
    return ImageLoader(
        LabelStudio(fake.url, token or fake.personal_token, sleep=lambda seconds: None), **options
    )


def test_an_upload_is_read_from_label_studio_with_the_token(fake_label_studio: FakeLabelStudio) -> None:
    task = fake_label_studio.add_task(fake_label_studio.add_project(), png())
    url = fake_label_studio.tasks[task]["data"]["image"]
    for token, kind in (
        (fake_label_studio.personal_token, "Bearer "),
        (fake_label_studio.legacy_token, "Token "),
    ):
        pixels = loader_of(fake_label_studio, token).open(url, task)
        assert np.array_equal(pixels, np.full((4, 6, 3), 90, np.uint8))
        assert str(fake_label_studio.requests[-1].authorization).startswith(kind)
    loader_of(fake_label_studio).open(f"{fake_label_studio.url}{url}")
    loader_of(fake_label_studio).open(url.removeprefix("/"))
    assert len(fake_label_studio.asked(url)) == 4


def test_twenty_images_one_second_apart_outlive_access_tokens_of_two_seconds(
    fake_label_studio: FakeLabelStudio,
) -> None:
    """FIELD_REPORTS G3: the personal token is exchanged, reused, renewed; a 401 in between would end in an error."""
    now = [1000.0]
    fake_label_studio.clock = lambda: now[0]
    fake_label_studio.access_seconds = 2
    fake_label_studio.legacy_allowed = False
    project = fake_label_studio.add_project()
    tasks = [fake_label_studio.add_task(project, png(number)) for number in range(1, 21)]
    client = LabelStudio(fake_label_studio.url, fake_label_studio.personal_token, clock=lambda: now[0])
    images = ImageLoader(client)
    for task in tasks:
        assert images.open(fake_label_studio.tasks[task]["data"]["image"], task).max() == task
        now[0] += 1
    assert fake_label_studio.exchanges == 10


def test_an_access_token_refused_before_its_time_is_renewed_once(fake_label_studio: FakeLabelStudio) -> None:
    for name in "abc":
        fake_label_studio.uploads[f"/data/upload/1/{name}.png"] = Answer(200, png())
    images = loader_of(fake_label_studio)
    images.open("/data/upload/1/a.png")
    fake_label_studio.revoke_access_tokens()
    images.open("/data/upload/1/b.png")
    assert (len(fake_label_studio.asked("/data/upload/1/b.png")), fake_label_studio.exchanges) == (2, 2)
    fake_label_studio.access_seconds = -1  # from now on, what is exchanged is refused at once
    fake_label_studio.revoke_access_tokens()
    with pytest.raises(ImageError, match="refused the personal token: Given token not valid"):
        images.open("/data/upload/1/c.png")
    assert len(fake_label_studio.asked("/data/upload/1/c.png")) == 2


def test_the_legacy_token_of_setup_refused_by_a_default_install_is_said_with_the_remedy(
    fake_label_studio: FakeLabelStudio,
) -> None:
    fake_label_studio.legacy_allowed = False
    fake_label_studio.uploads["/data/upload/1/a.png"] = Answer(200, png())
    client = LabelStudio()
    client.learn_from_setup(fake_label_studio.url, fake_label_studio.legacy_token)
    with pytest.raises(ImageError, match=r"refused the legacy token: .*disabled") as caught:
        ImageLoader(client).open("/data/upload/1/a.png")
    assert "Make a personal access token" in str(caught.value)
    assert isinstance(caught.value.__cause__, Unauthorized)
    with pytest.raises(ImageError, match="there is none"):
        ImageLoader(LabelStudio(fake_label_studio.url)).open("/data/upload/1/a.png")


def test_a_bucket_address_is_signed_for_the_task_and_the_token_stays_with_label_studio(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    """FIELD_REPORTS G2: `bucket` answers 400 to whoever brings an Authorization header."""
    uri = "s3://bucket/a b/1.png"
    for _ in range(7):
        task = fake_label_studio.add_task(1, image=uri)
    fake_label_studio.signed[uri] = (
        bucket.put("/bucket/a%20b/1.png", png(33)) + "?X-Amz-Signature=a%2Bb+c/%7E~"
    )
    pixels = loader_of(fake_label_studio, allowed_hosts=LOOPBACK).open(uri, task)
    assert pixels.max() == 33
    (asked,) = fake_label_studio.asked("/tasks/7/presign/")
    assert base64.urlsafe_b64decode(asked.query["fileuri"]) == uri.encode()
    assert str(asked.authorization).startswith("Bearer ")
    (fetched,) = bucket.requests
    assert fetched.target == "/bucket/a%20b/1.png?X-Amz-Signature=a%2Bb+c/%7E~"
    assert fetched.authorization is None


@pytest.mark.parametrize("uri", ["gs://b/1.png", "azure-blob://c/1.png", "S3://b/1.png", "s3s://b/ü.png"])
def test_any_bucket_address_goes_through_label_studio(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket, uri: str
) -> None:
    task = fake_label_studio.add_task(1, image=uri)
    fake_label_studio.signed[uri] = bucket.put("/1.png", png())
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK)
    assert images.open(uri, task).shape == (4, 6, 3)
    with pytest.raises(ImageError, match="for a task only"):
        images.open(uri, None)
    with pytest.raises(ImageError, match=r"/presign/ with 404\. Check that the project has a storage"):
        images.open(uri, task + 1)


def test_a_storage_that_label_studio_hands_through_is_read_as_well(
    fake_label_studio: FakeLabelStudio,
) -> None:
    """With pre-signed addresses off Label Studio answers the image itself, and task data hold /resolve/ addresses."""
    task = fake_label_studio.add_task(1, image="s3://b/1.png")
    fake_label_studio.uploads["/data/through.png"] = Answer(200, png(5))
    fake_label_studio.signed["s3://b/1.png"] = "/data/through.png"
    named = base64.urlsafe_b64encode(b"s3://b/1.png").decode()
    images = loader_of(fake_label_studio)
    assert images.open("s3://b/1.png", task).max() == 5
    assert images.open(f"/tasks/{task}/resolve/?fileuri={named}").max() == 5
    assert all(request.authorization for request in fake_label_studio.asked("/data/through.png"))


SIGNED = "?X-Amz-Algorithm=AWS4&X-Amz-Credential=AK%2F2026%2Fs3&list=a,b;c=(d)|{e}&X-Amz-Signature=deadbeef%2b%2B+/=~*'!"


def test_a_signed_address_is_asked_byte_for_byte_and_never_repeated(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK)
    good = bucket.put("/a%2Fb//../%7e.png", png()) + SIGNED
    assert images.open(good + "#fragment").shape == (4, 6, 3)
    assert bucket.requests[-1].target == "/a%2Fb//../%7e.png" + SIGNED
    moved = bucket.put("/moved", b"", 302, Location=good)
    assert images.open(moved).shape == (4, 6, 3)
    assert bucket.requests[-1].target == "/a%2Fb//../%7e.png" + SIGNED
    expired = bucket.put("/expired.png", b"<Error><Message>deadbeef</Message></Error>", 403) + SIGNED
    for url in (
        expired,
        bucket.put("/no.png", b"<html>") + SIGNED,
        bucket.url.replace("127", "127.0.0.1:x") + SIGNED,
    ):
        with pytest.raises(ImageError) as caught:
            images.open(url)
        assert "deadbeef" not in str(caught.value)
    assert "deadbeef" not in caplog.text


def test_an_address_with_spaces_and_umlauts_is_asked_as_a_browser_does(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    path = "/a b/zähne.png"
    bucket.files[quote(path)] = Answer(200, png())
    images = loader_of(fake_label_studio, allowed_hosts=LOOPBACK)
    assert images.open(f" {bucket.url}{path}\n").shape == (4, 6, 3)
    for location in (quote(path), path.encode().decode("latin-1")):  # raw UTF-8, as some servers send it
        moved = bucket.put(f"/moved{len(location)}", b"", 302, Location=location)
        assert images.open(moved).shape == (4, 6, 3)
    bucket.files[quote("/zähne.png")] = Answer(200, png(3))
    latin = bucket.put("/latin", b"", 302, Location="/zähne.png")
    assert images.open(latin).max() == 3


def test_a_data_address_is_the_image(fake_label_studio: FakeLabelStudio) -> None:
    images = loader_of(fake_label_studio, max_bytes=1000)
    encoded = base64.b64encode(png()).decode()
    for url in (
        f"data:image/png;base64,{encoded}",
        f"DATA:;BASE64,{encoded.rstrip('=')}",
        f"data:,{quote(png())}",
    ):
        assert images.open(url).shape == (4, 6, 3)
    for url in ("data:image/png;base64", "data:image/png;base64,abcde"):
        with pytest.raises(ImageError, match="damaged"):
            images.open(url)
    with pytest.raises(ImageError, match="SVG"):
        images.open("data:image/svg+xml,%3Csvg/%3E")
    for length in (1001, 3000):
        with pytest.raises(ImageError, match="larger than 1000 bytes"):
            images.open("data:," + "a" * length)
    assert fake_label_studio.requests == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x y.png").write_bytes(png(44))
    (tmp_path / "secret.png").write_bytes(png())
    return folder


def test_a_local_file_below_the_root_is_read_from_the_disk(
    fake_label_studio: FakeLabelStudio, root: Path
) -> None:
    for client in (
        LabelStudio(fake_label_studio.url + "/labels"),
        LabelStudio(fake_label_studio.url),
        LabelStudio(),
    ):
        images = ImageLoader(client, local_files_root=root, cache_bytes=0)
        addresses = ["/data/local-files/?d=sub/x%20y.png", "/data/local-files?d=/sub/x+y.png"]
        if client.configured:
            addresses.append(f"{client.url}/data/local-files/?d=sub/x%20y.png")
        for url in addresses:
            assert images.open(url).max() == 44
    assert fake_label_studio.requests == []


def test_a_local_file_that_is_not_here_is_asked_of_label_studio(
    fake_label_studio: FakeLabelStudio, root: Path
) -> None:
    fake_label_studio.uploads["/data/local-files/"] = Answer(200, png(55))
    for folder in (None, root):
        images = loader_of(fake_label_studio, local_files_root=folder)
        assert images.open("/data/local-files/?d=elsewhere.png").max() == 55
    assert fake_label_studio.requests[-1].query == {"d": "elsewhere.png"}


def test_no_path_and_no_link_leads_out_of_the_root(fake_label_studio: FakeLabelStudio, root: Path) -> None:
    (root / "link.png").symlink_to(root.parent / "secret.png")
    (root / "out").symlink_to(root.parent)
    (root / "loop").symlink_to(root / "loop")
    images = loader_of(fake_label_studio, local_files_root=root)
    for path in ("../secret.png", "sub/../../secret.png", "link.png", "out/secret.png", "%2e%2e/secret.png"):
        with pytest.raises(ImageError, match="outside LOCAL_FILES_ROOT"):
            images.open(f"/data/local-files/?d={path}")
    for path in ("a%00b", "loop"):
        with pytest.raises(ImageError, match=r"cannot be read|404"):
            images.open(f"/data/local-files/?d={path}")
    (root / "within.png").symlink_to(root / "sub" / "x y.png")
    assert images.open("/data/local-files/?d=within.png").max() == 44


def test_a_local_file_that_may_not_be_read_is_said_to_be_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"cannot be read \(Permission denied\)"):
        ImageLoader(LabelStudio(), local_files_root=root).open("/data/local-files/?d=sub/x%20y.png")


def test_other_paths_of_label_studio_are_no_local_files(
    fake_label_studio: FakeLabelStudio, root: Path
) -> None:
    fake_label_studio.uploads["/data/upload/1/a.png"] = Answer(200, png(6))
    images = loader_of(fake_label_studio, local_files_root=root)
    assert images.open("/data/upload/1/a.png?d=sub/x%20y.png").max() == 6


def test_a_local_file_has_the_same_limits(root: Path) -> None:
    images = ImageLoader(LabelStudio(), local_files_root=root, max_bytes=20)
    with pytest.raises(ImageError, match="larger than 20 bytes"):
        images.open("/data/local-files/?d=sub/x%20y.png")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "no address"),
        ("picture.png", "no address"),
        ("file:///etc/passwd", "this kind"),
        ("//evil.example/a.png", "this kind"),
        ("http://user:password@example.com/a.png", "user names"),
        ("http:///a.png", "no host"),
        ("http://a:b:c/a.png", "cannot be (used|read)"),
        ("/user/login/?next=/data/upload/1/a.png", "web page"),
        ("/data/upload/1/gone.png", "404.*The file is gone"),
    ],
)
def test_what_cannot_be_opened_says_why(fake_label_studio: FakeLabelStudio, url: str, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        loader_of(fake_label_studio).open(url, 1)
    assert "password" not in str(caught.value).replace("passwd", "")


def test_what_a_server_answers_instead_is_said(
    fake_label_studio: FakeLabelStudio, bucket: FakeBucket
) -> None:
    images = loader_of(fake_label_studio, fake_label_studio.legacy_token, allowed_hosts=LOOPBACK)
    with pytest.raises(ImageError, match=r"answered 404 instead of the image\.$"):
        images.open(f"{bucket.url}/gone.png")
    with pytest.raises(
        ImageError, match=r"answered 403 instead of the image\. A signed address may have expired"
    ):
        images.open(bucket.put("/expired.png", b"x" * 10_000, 403))
    fake_label_studio.failures = [Answer(503)]
    with pytest.raises(ImageError, match=r"Label Studio at http://127.0.0.1:\d+ answers 503 for now\."):
        images.open("/data/upload/1/a.png")
    fake_label_studio.failures = [Answer(302)]
    with pytest.raises(ImageError, match="with 302"):
        images.open("/data/upload/1/a.png")


def test_label_studio_that_is_away_or_unknown_is_said(fake_label_studio: FakeLabelStudio) -> None:
    images = loader_of(fake_label_studio, fake_label_studio.legacy_token)
    fake_label_studio.stop()
    with pytest.raises(ImageError, match=r"Label Studio at http://127.+ cannot be reached"):
        images.open("/data/upload/1/a.png")
    with pytest.raises(ImageError, match="LABEL_STUDIO_URL") as caught:
        ImageLoader(LabelStudio()).open("/data/upload/1/a.png")
    assert isinstance(caught.value.__cause__, Unreachable)


def test_an_image_is_fetched_once_however_many_ask(fake_label_studio: FakeLabelStudio) -> None:
    fake_label_studio.uploads["/data/upload/1/a.png"] = Answer(200, png())
    images = loader_of(fake_label_studio, fake_label_studio.legacy_token)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(images.open("/data/upload/1/a.png"))) for _ in range(8)
    ]
    with fake_label_studio.lock:  # no answer before all have asked
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert len({id(image) for image in found}) == 1
    assert len(found) == 8
    assert len(fake_label_studio.asked("/data/upload/1/a.png")) == 1


def test_a_failure_is_not_remembered(fake_label_studio: FakeLabelStudio) -> None:
    images = loader_of(fake_label_studio)
    with pytest.raises(ImageError):
        images.open("/data/upload/1/a.png")
    fake_label_studio.uploads["/data/upload/1/a.png"] = Answer(200, png(8))
    assert images.open("/data/upload/1/a.png").max() == 8


@pytest.fixture
def lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ImageLoader, ...]:
    """Loaders for which no host has an address."""

    def unknown(host: str, port: int, **options: Any) -> None:
        raise socket.gaierror

    monkeypatch.setattr("backend.images.addresses.socket.getaddrinfo", unknown)
    clients = (LabelStudio("http://label-studio.invalid", "x"), LabelStudio())
    return tuple(ImageLoader(client, local_files_root=root) for client in clients)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.sampled_from(
        [
            "",
            "/",
            "http://",
            "https://[",
            "//",
            "s3://",
            "data:",
            "file:",
            "/data/local-files/?d=",
            "x:",
            "\ud800",
        ]
    ),
    st.text(max_size=20),
    st.none() | st.integers(),
)
def test_whatever_a_task_names_is_pixels_or_an_image_error(
    lost: tuple[ImageLoader, ...], start: str, rest: str, task: int | None
) -> None:
    for images in lost:
        with pytest.raises(ImageError):
            images.open(start + rest, task)
