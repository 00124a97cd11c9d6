"""Who may use the admin page: logging in and out, and forms that other pages cannot send."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from backend.page.access import COOKIE, Sessions
from tests.backend.stage import ADDRESS, LOOPBACK, Stage

TOKEN = "an-admin-token-ä"  # noqa: S105 - no secret
HOME = {"Origin": ADDRESS}


@pytest.fixture
def closed(staging: Callable[..., Stage]) -> Stage:
    """A backend with an ADMIN_TOKEN and one example."""
    stage = staging(admin_token=TOKEN)
    stage.approve(1)
    return stage


def log_in(stage: Stage, token: str = TOKEN, headers: dict[str, str] = HOME, **form: str) -> Any:
    return stage.client.post("/login", data={"token": token, **form}, headers=headers, follow_redirects=False)


def word(stage: Stage, path: str) -> str:
    found = re.search(r'name="word" value="([0-9a-f]{64})"', stage.client.get(path).text)
    assert found is not None
    return found[1]


def pages(stage: Stage) -> list[str]:
    project = f"/projects/{stage.key}"
    key = stage.backend.store.pool(stage.key)[0].key
    rest = (
        "",
        "/examples",
        "/influence",
        "/lost-labels",
        "/prompts",
        "/tasks",
        "/tasks/1",
        "/why?task=1",
        f"/examples/{key}/picture",
    )
    return ["/", "/doctor", *(project + one for one in rest)]


def forms(stage: Stage) -> list[str]:
    key = stage.backend.store.pool(stage.key)[0].key
    parts = (
        f"examples/{key}/drop", f"examples/{key}/restore", f"examples/{key}/pin", f"examples/{key}/unpin", "measure",
        "influence/preview", "influence/put-away", "influence/acts", "influence/acts/1/restore",
        "lost-labels/answer", "lost-labels/take-back", "tunings", "tunings/1/stop", "tunings/1/resume",
        "prompts/1/activate", "rollback", "refresh",
    )  # fmt: skip
    return [f"/projects/{stage.key}/{part}" for part in parts]


# -- by token ------------------------------------------------------------------------------------------------------
def test_whoever_has_not_logged_in_sees_the_form_only_and_comes_back_to_where_he_was(closed: Stage) -> None:
    for path in pages(closed):
        answer = closed.client.get(path, follow_redirects=False)
        assert answer.status_code == 303, path
        assert answer.text == ""
        shown = closed.client.get(path)
        assert (shown.status_code, shown.url.path) == (200, "/login")
        assert closed.key not in shown.text.replace(f'value="{path}"', "")
    shown = closed.client.get(pages(closed)[-1])
    to = re.search(r'name="next" value="([^"]*)"', shown.text)
    assert to is not None
    answer = log_in(closed, next=to[1])
    assert (answer.status_code, answer.headers["location"]) == (303, pages(closed)[-1])
    assert closed.client.get(answer.headers["location"]).headers["content-type"] == "image/png"


def test_the_cookie_is_for_this_site_only_and_no_script_reads_it(closed: Stage) -> None:
    given = log_in(closed).headers["set-cookie"]
    parts = {part.strip().lower() for part in given.split(";")}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert "secure" not in parts
    encrypted = TestClient(closed.app, "https://studio:9090", client=LOOPBACK)
    given = encrypted.post(
        "/login", data={"token": TOKEN}, headers={"Origin": "https://studio:9090"}, follow_redirects=False
    ).headers["set-cookie"]
    assert "secure" in {part.strip().lower() for part in given.split(";")}


def test_behind_a_proxy_that_does_not_say_how_it_was_asked_the_cookie_is_for_https_only(
    closed: Stage,
) -> None:
    given = log_in(closed, headers={"Origin": "https://studio", "Host": "studio"}).headers["set-cookie"]
    assert "secure" in {part.strip().lower() for part in given.split(";")}


def test_spaces_around_either_token_do_not_matter_but_there_must_be_one(
    staging: Callable[..., Stage],
) -> None:
    spaced = staging(admin_token=f" {TOKEN}\t")
    assert log_in(spaced, TOKEN).status_code == 303
    assert log_in(spaced, f" {TOKEN}\t").status_code == 303


def test_a_failed_login_is_one_line_in_the_log_without_what_was_given(
    closed: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    assert log_in(closed, "a-guess").status_code == 401
    (said,) = [record.getMessage() for record in caplog.records if record.name == "backend.page.access"]
    assert said == "a login with a wrong token, from '127.0.0.1'"
    caplog.clear()
    log_in(closed)
    assert "wrong token" not in caplog.text


@pytest.mark.parametrize("token", ["", "an-admin-token", TOKEN.upper(), f"Bearer {TOKEN}", "\ud800"])
def test_a_wrong_token_gets_no_session(closed: Stage, token: str) -> None:
    answer = log_in(closed, token.encode(errors="surrogatepass").decode(errors="replace"))
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "not the token" in answer.text
    assert closed.client.get("/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", "/a\r\nb"]
)
def test_logging_in_leads_to_no_other_site(closed: Stage, to: str) -> None:
    assert log_in(closed, next=to).headers["location"] == "/"
    shown = closed.client.get("/login", params={"next": to})
    assert 'name="next" value="/"' in shown.text


def test_a_session_ends_by_logging_out_for_the_old_cookie_too(closed: Stage) -> None:
    log_in(closed)
    cookie = closed.client.cookies[COOKIE]
    answer = closed.client.post(
        "/logout", data={"word": word(closed, "/")}, headers=HOME, follow_redirects=False
    )
    assert answer.headers["location"] == "/login"
    assert COOKIE not in closed.client.cookies
    again = closed.client.get("/", headers={"Cookie": f"{COOKIE}={cookie}"}, follow_redirects=False)
    assert again.status_code == 303


def test_sessions_hold_in_every_process_and_die_with_the_token(
    closed: Stage, staging: Callable[..., Stage]
) -> None:
    log_in(closed)
    cookies = {"Cookie": f"{COOKIE}={closed.client.cookies[COOKIE]}"}
    for token, status in ((TOKEN, 200), ("another-token", 303)):
        other = staging(admin_token=token)
        assert other.client.get("/", headers=cookies, follow_redirects=False).status_code == status


def test_a_session_ends_after_a_time_and_its_cookie_is_not_stored(
    closed: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = closed.backend.store
    sessions = Sessions(store, TOKEN)
    cookie = sessions.begin()
    assert sessions.holds(cookie)
    assert cookie not in str(store.note("page:sessions"))
    assert not Sessions(store, "another").holds(cookie)
    assert not sessions.holds("")
    monkeypatch.setattr("backend.page.access.SESSION_SECONDS", -1)
    over = sessions.begin()
    assert not sessions.holds(over)
    assert sessions.holds(cookie)


def test_only_so_many_sessions_are_kept_and_the_oldest_end(
    closed: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.page.access._MOST", 3)
    sessions = Sessions(closed.backend.store, TOKEN)
    cookies = [sessions.begin() for _ in range(5)]
    assert [sessions.holds(cookie) for cookie in cookies] == [False, False, True, True, True]


def test_the_api_takes_no_cookie_and_the_page_no_password(closed: Stage) -> None:
    log_in(closed)
    assert closed.client.get("/api/projects").status_code == 401
    closed.client.cookies.clear()
    bearer = {b"Authorization": f"Bearer {TOKEN}".encode()}
    answer = closed.client.get("/", headers=bearer, follow_redirects=False)
    assert answer.status_code == 303


# -- forms ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("origin", ["http://127.0.0.1:8080", "https://evil.example", "null", "", None])
def test_forms_of_other_pages_change_nothing(closed: Stage, origin: str | None) -> None:
    log_in(closed)
    good = {"word": word(closed, f"/projects/{closed.key}/examples")}
    headers = {} if origin is None else {"Origin": origin}
    before = closed.setup()
    for path in [*forms(closed), "/logout"]:
        answer = closed.client.post(path, data=good, headers=headers, follow_redirects=False)
        assert (answer.status_code, "very address" in answer.text) == (403, True), path
    assert log_in(closed, headers=headers).status_code == 403
    assert closed.setup() == before
    assert len(closed.pool) == 1
    assert closed.client.get("/").status_code == 200


def test_forms_without_the_page_s_word_change_nothing(closed: Stage, staging: Callable[..., Stage]) -> None:
    log_in(closed)
    other = TestClient(closed.app, ADDRESS, client=LOOPBACK)
    other.post("/login", data={"token": TOKEN}, headers=HOME)
    shown = other.get(f"/projects/{closed.key}/examples").text
    somebody_s = re.findall(r'name="word" value="([0-9a-f]{64})"', shown)[0]
    for given in ({}, {"word": ""}, {"word": "0" * 64}, {"word": "ä"}, {"word": somebody_s}):
        for path in forms(closed):
            answer = closed.client.post(path, data=given, headers=HOME, follow_redirects=False)
            assert (answer.status_code, "reload" in answer.text) == (403, True), path
    assert len(closed.pool) == 1


def test_forms_of_whoever_is_not_logged_in_lead_to_the_login(closed: Stage) -> None:
    for path in forms(closed):
        answer = closed.client.post(path, data={"word": "0" * 64}, headers=HOME, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2F")
    assert len(closed.pool) == 1


def test_a_form_that_is_too_large_or_none_is_refused(stage: Stage) -> None:
    stage.approve(1)
    path = forms(stage)[0]
    for content, status in (
        (b"word=" + b"x" * 70_000, 413),
        (b"\xff\xfe", 422),
        (b"&".join([b"a=1"] * 60), 422),
    ):
        answer = stage.client.post(path, content=content, headers=HOME, follow_redirects=False)
        assert (answer.status_code, "<h1>" in answer.text) == (status, True)


# -- without a token -----------------------------------------------------------------------------------------------
def test_without_a_token_this_machine_needs_no_login(stage: Stage) -> None:
    stage.approve(1)
    for path in pages(stage):
        assert stage.client.get(path, follow_redirects=False).status_code == 200, path
    assert "Log out" not in stage.client.get("/").text
    assert stage.client.get("/login?next=/doctor", follow_redirects=False).headers["location"] == "/doctor"
    assert log_in(stage).headers["location"] == "/"
    path = forms(stage)[0]
    form = {"word": word(stage, f"/projects/{stage.key}/examples")}
    assert stage.client.post(path, data=form, headers=HOME, follow_redirects=False).status_code == 303
    assert stage.pool == []
    form = {"word": word(stage, f"/projects/{stage.key}/tasks")}
    assert (
        stage.client.post("/logout", data=form, headers=HOME, follow_redirects=False).headers["location"]
        == "/"
    )


def test_without_a_token_no_other_machine_and_no_foreign_name_is_let_in(stage: Stage) -> None:
    stage.approve(1)
    elsewhere = TestClient(stage.app, ADDRESS, client=("192.0.2.7", 50_000))
    for path in pages(stage):
        for answer in (elsewhere.get(path), stage.client.get(path, headers={"Host": "evil.example"})):
            assert answer.status_code == 403
            assert stage.key not in answer.text
    form = {"word": word(stage, f"/projects/{stage.key}/examples")}
    for path in forms(stage):
        assert elsewhere.post(path, data=form, headers=HOME).status_code == 403
        evil = {"Host": "evil.example", "Origin": "http://evil.example"}
        assert stage.client.post(path, data=form, headers=evil).status_code == 403
    assert len(stage.pool) == 1
