import threading

import pytest
from pydantic import SecretStr

from backend.errors import Unauthorized, Unreachable
from backend.label_studio import LabelStudio, Origin
from backend.label_studio.credentials import Credentials
from tests.backend.fake_label_studio import FakeLabelStudio, jwt
from tests.backend.loopback import Answer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(fake_label_studio: FakeLabelStudio) -> Clock:
    fake_label_studio.clock = clock = Clock()
    return clock


def test_a_personal_token_is_exchanged_once_reused_and_renewed_before_it_expires(
    fake_label_studio: FakeLabelStudio, clock: Clock
) -> None:
    client = LabelStudio(fake_label_studio.url, fake_label_studio.personal_token, clock=clock)
    exchanges = []
    for passed in (0, 0, 200, 60, 20, 10, 10):  # renewed when 30 of its 300 s are left
        clock.now += passed
        client.version()
        exchanges.append(fake_label_studio.exchanges)
    assert exchanges == [1, 1, 1, 1, 2, 2, 2]
    headers = [str(request.authorization) for request in fake_label_studio.asked("/api/version")]
    assert all(header.startswith("Bearer ") for header in headers)
    assert not [header for header in headers if fake_label_studio.personal_token in header]


def test_an_access_token_that_is_refused_early_is_renewed_once(
    fake_label_studio: FakeLabelStudio, clock: Clock
) -> None:
    client = LabelStudio(fake_label_studio.url, fake_label_studio.personal_token, clock=clock)
    client.version()
    fake_label_studio.revoke_access_tokens()
    assert client.version() == "1.23.2"
    assert fake_label_studio.exchanges == 2
    fake_label_studio.access_seconds = -1
    fake_label_studio.revoke_access_tokens()
    with pytest.raises(Unauthorized, match="refused the personal token"):
        client.version()
    assert fake_label_studio.exchanges == 3


def test_many_threads_share_one_exchange(fake_label_studio: FakeLabelStudio) -> None:
    client = LabelStudio(fake_label_studio.url, fake_label_studio.personal_token)
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(client.version())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["1.23.2"] * 8
    assert fake_label_studio.exchanges == 1
    fake_label_studio.revoke_access_tokens()
    threads = [threading.Thread(target=lambda: answers.append(client.version())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["1.23.2"] * 16
    assert fake_label_studio.exchanges == 2


def test_a_legacy_token_is_sent_as_it_is(fake_label_studio: FakeLabelStudio) -> None:
    client = LabelStudio(fake_label_studio.url, SecretStr(fake_label_studio.legacy_token))
    assert (client.version(), client.token_kind) == ("1.23.2", "legacy")
    assert fake_label_studio.requests[-1].authorization == f"Token {fake_label_studio.legacy_token}"


def test_a_legacy_token_where_they_are_off_says_how_to_get_a_personal_one(
    fake_label_studio: FakeLabelStudio,
) -> None:
    fake_label_studio.legacy_allowed = False
    client = LabelStudio(fake_label_studio.url, fake_label_studio.legacy_token)
    with pytest.raises(Unauthorized, match="legacy token authentication has been disabled") as caught:
        client.version()
    assert "personal access token" in caught.value.remedy
    assert len(fake_label_studio.requests) == 1


def test_without_a_token_the_remedy_is_said(fake_label_studio: FakeLabelStudio) -> None:
    with pytest.raises(Unauthorized, match="there is none") as caught:
        LabelStudio(fake_label_studio.url).version()
    assert "LABEL_STUDIO_API_KEY" in caught.value.remedy


def test_a_revoked_personal_token_is_said_and_never_sent_as_a_header(
    fake_label_studio: FakeLabelStudio,
) -> None:
    client = LabelStudio(fake_label_studio.url, jwt({"token_type": "refresh", "exp": 1}))
    with pytest.raises(Unauthorized, match="refused the personal token: it was revoked"):
        client.version()
    assert [request.path for request in fake_label_studio.requests] == ["/api/token/refresh/"]


@pytest.mark.parametrize(
    "answer", [Answer(200, b"{}"), Answer(200, b"[]"), Answer(404), Answer(200, b"<html>")]
)
def test_an_exchange_without_an_access_token_is_an_error(
    fake_label_studio: FakeLabelStudio, answer: Answer
) -> None:
    fake_label_studio.failures = [answer]
    with pytest.raises(Exception, match="token") as caught:
        LabelStudio(fake_label_studio.url, fake_label_studio.personal_token).version()
    assert type(caught.value).__name__ == "LabelStudioError"


def test_a_user_who_may_not_see_a_project_is_told_so(fake_label_studio: FakeLabelStudio) -> None:
    fake_label_studio.failures = [Answer(403, b'{"detail": "You do not have permission."}')]
    with pytest.raises(
        Unauthorized, match=r"forbids this to the token's user: You do not have permission\. Use"
    ):
        LabelStudio(fake_label_studio.url, fake_label_studio.legacy_token).project(1)


def test_the_token_is_for_label_studios_own_origin_only(fake_label_studio: FakeLabelStudio) -> None:
    client = LabelStudio("http://labels.example.com:8080/base/", fake_label_studio.legacy_token)
    ours = {"Authorization": f"Token {fake_label_studio.legacy_token}"}
    assert client.authorization("http://LABELS.example.com:8080/data/upload/1/a.png?x=1") == ours
    assert client.origin == "http://labels.example.com:8080"
    for foreign in (
        "https://labels.example.com:8080/a",
        "http://labels.example.com/a",
        "http://labels.example.com.evil.example:8080/a",
        "http://labels.example.com:8080@evil.example/a",
        "http://evil.example\\@labels.example.com:8080/a",
        "http://labels.example.com:8080\\.evil.example/a",
        "http://evil.example/#labels.example.com:8080",
        "ftp://labels.example.com:8080/a",
        "http://labels.example.com:99999999/a",
        "/data/upload/1/a.png",
        "",
    ):
        assert client.authorization(foreign) == {}, foreign
        assert client.renewed_authorization(foreign, ours) == {}, foreign


def test_setup_tells_address_and_token_where_the_environment_gives_none(
    fake_label_studio: FakeLabelStudio,
) -> None:
    client = LabelStudio()
    client.learn_from_setup("not an address", "x")
    assert not client.configured
    client.learn_from_setup(fake_label_studio.url + "/", fake_label_studio.legacy_token)
    assert (client.version(), client.url, client.token_kind) == ("1.23.2", fake_label_studio.url, "legacy")
    client.learn_from_setup(fake_label_studio.url, "another creator's")
    client.learn_from_setup(fake_label_studio.url, "another creator's")
    assert client.authorization(fake_label_studio.url) == {"Authorization": "Token another creator's"}


def test_a_token_of_setup_that_no_header_can_hold_is_none() -> None:
    client = LabelStudio()
    client.learn_from_setup("http://one.example", "of\u200bone")
    assert (client.authorization("http://one.example/a"), client.token_kind) == ({}, "none")


def test_a_learned_token_never_goes_to_another_learned_address() -> None:
    client = LabelStudio()
    client.learn_from_setup("http://one.example", "of one")
    client.learn_from_setup("http://two.example", "of two")
    assert client.authorization("http://one.example/a") == {}
    assert client.authorization("http://two.example/a") == {"Authorization": "Token of two"}


def test_the_environments_token_goes_to_a_learned_address_on_this_machine_only() -> None:
    client = LabelStudio("", "from the environment")
    client.learn_from_setup("http://evil.example", "posted by anyone")
    assert client.authorization("http://evil.example/a") == {"Authorization": "Token posted by anyone"}
    for here in ("http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"):
        client.learn_from_setup(here, "of setup")
        assert client.authorization(here + "/a") == {"Authorization": "Token from the environment"}


def test_setup_changes_nothing_where_the_environment_gives_both() -> None:
    client = LabelStudio("http://labels.example.com", "ours")
    client.learn_from_setup("http://evil.example", "posted by anyone")
    assert client.authorization("http://labels.example.com/a") == {"Authorization": "Token ours"}
    assert client.authorization("http://evil.example/a") == {}


def test_setups_token_serves_the_environments_address_where_it_gives_no_token() -> None:
    client = LabelStudio("http://label-studio:8080")
    client.learn_from_setup("http://localhost:8080", "of setup")
    assert client.authorization("http://label-studio:8080/a") == {"Authorization": "Token of setup"}
    assert client.authorization("http://localhost:8080/a") == {}


def test_task_data_is_reached_at_the_address_we_know() -> None:
    client = LabelStudio("http://label-studio:8080/labels", "token")
    assert (
        client.reach("/data/upload/1/a%20b.png") == "http://label-studio:8080/labels/data/upload/1/a%20b.png"
    )
    assert client.reach("data/upload/1/a.png") == "http://label-studio:8080/labels/data/upload/1/a.png"
    assert (
        client.reach("/labels/data/upload/1/a.png") == "http://label-studio:8080/labels/data/upload/1/a.png"
    )
    signed = "https://bucket.example/a%2Fb?X-Amz-Signature=%2B&x"
    assert client.reach(signed) == signed
    alias = "http://localhost:8080/labels/data/local-files/?d=a"
    assert client.reach(alias) == alias
    for unclear in ("http://user:password@example.com/a", "http:///a", "s3://b/a", "http://a:b:c/a"):
        assert client.reach(unclear) == unclear
    client.learn_from_setup("http://localhost:8080/labels", "of setup")
    assert client.reach(alias) == "http://label-studio:8080/labels/data/local-files/?d=a"
    assert client.reach(signed) == signed


def test_a_token_that_does_not_tell_its_life_is_used_for_a_minute() -> None:
    clock = Clock()
    issued: list[str] = []

    def exchange(personal: str) -> str:
        issued.append(personal)
        return f"access {len(issued)}"

    credentials = Credentials(SecretStr(jwt({"token_type": "refresh"})), exchange, clock)
    headers = []
    for _ in range(4):
        headers.append(credentials.header()["Authorization"])
        clock.now += 20
    assert headers == ["Bearer access 1", "Bearer access 1", "Bearer access 1", "Bearer access 2"]


def test_a_refused_token_that_another_thread_has_renewed_already_is_not_exchanged_again() -> None:
    exchanged: list[str] = []

    def exchange(personal: str) -> str:
        exchanged.append(personal)
        return f"access {len(exchanged)}"

    credentials = Credentials(SecretStr(jwt({"token_type": "refresh"})), exchange)
    old = credentials.header()
    new = {"Authorization": "Bearer access 2"}
    assert [credentials.renewed(old), credentials.renewed(old), credentials.header()] == [new, new, new]
    assert len(exchanged) == 2


@pytest.mark.parametrize("token", ["a.b.c", "a.b", "0" * 40, "..", "x.W10.y"])
def test_what_is_no_personal_token_is_sent_as_a_legacy_one(token: str) -> None:
    assert LabelStudio("http://l", token).authorization("http://l/a") == {"Authorization": f"Token {token}"}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("HTTP://Example.COM:80/a", "http://example.com"),
        ("https://example.com.:8443", "https://example.com:8443"),
        ("http://[::1]:8080/a", "http://[::1]:8080"),
        ("http://bücher.example/a", "http://xn--bcher-kva.example"),
    ],
)
def test_an_origin_is_read_one_way(url: str, text: str) -> None:
    assert str(Origin.of(url)) == text


@pytest.mark.parametrize(
    "url", ["", "s3://b/a", "http://", "http:///a", "http://a b/c", "http://[::1/a", "http://u:p@h/"]
)
def test_what_has_no_clear_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Origin.of(url)
    assert "u:p" not in str(caught.value)


def test_label_studio_that_is_away_cannot_exchange(fake_label_studio: FakeLabelStudio) -> None:
    client = LabelStudio(fake_label_studio.url, fake_label_studio.personal_token, sleep=lambda seconds: None)
    fake_label_studio.stop()
    with pytest.raises(Unreachable):
        client.authorization(fake_label_studio.url + "/a")
