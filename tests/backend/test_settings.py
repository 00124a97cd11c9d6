"""The table of settings: names, forms, defaults, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from backend.settings import Settings


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_without_any_environment_the_defaults_hold() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.checkpoint) == ("127.0.0.1", 9090, "embedded")
    assert (settings.shots, settings.pool_size, settings.predict_deadline) == (8, 64, 40.0)
    assert settings.pre_annotate_limit is None
    assert settings.basic_authorizations == ()


def test_each_setting_is_read_from_its_name_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = set_all(
        monkeypatch, BACKEND_HOST="0.0.0.0", PORT="9191", DATA_DIR="elsewhere", LEARN_FROM_BULK="on",  # noqa: S104
        INSTANCES="yes", APPROVED_WHEN="ground_truth", LABEL_STUDIO_URL="http://studio:8080/", SHOTS="",
    )  # fmt: skip
    assert (settings.host, settings.port, settings.data_dir) == ("0.0.0.0", 9191, Path("elsewhere"))  # noqa: S104
    assert (settings.learn_from_bulk, settings.instances) == (True, True)
    assert settings.approved_when == "ground_truth"
    assert settings.label_studio_url == "http://studio:8080"
    assert settings.shots == 8  # empty counts as not set


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LABEL_STUDIO_URL", "studio:8080"), ("PORT", "0"), ("PORT", "ninety"), ("PRE_ANNOTATE", "some"),
        ("PRE_ANNOTATE", "-1"), ("SHOTS", "17"), ("THRESHOLD", "1"), ("PREDICT_DEADLINE", "0"), ("WORKER", "maybe"),
        ("MIN_AREA", "1"), ("RECONCILE_EVERY", "1"), ("LOG_LEVEL", "LOUD"), ("APPROVED_WHEN", "always"),
        ("ADMIN_TOKEN", "  "), ("LABEL_STUDIO_API_KEY", "\n"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_understood_is_refused_with_the_name_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        set_all(monkeypatch, **{name: value})
    assert [error["loc"][0] for error in refused.value.errors()] == [
        name.lower() if name != "BACKEND_HOST" else name
    ]


@pytest.mark.parametrize(
    ("value", "limit"), [("off", 0), ("OFF", 0), ("all", None), (" All ", None), ("25", 25), ("0", 0)]
)
def test_pre_annotate_is_off_all_or_a_number(
    monkeypatch: pytest.MonkeyPatch, value: str, limit: int | None
) -> None:
    assert set_all(monkeypatch, PRE_ANNOTATE=value).pre_annotate_limit == limit


@pytest.mark.parametrize(
    ("value", "hosts"),
    [("a.b", ("a.b",)), (" A.b:9000 , c ,, ", ("a.b:9000", "c")), (("x", "y"), ("x", "y"))],
)
def test_allowed_hosts_are_comma_separated(value: Any, hosts: tuple[str, ...]) -> None:
    assert Settings(allowed_hosts=value).allowed_hosts == hosts


@pytest.mark.parametrize("name", ["ADMIN_TOKEN", "LABEL_STUDIO_API_KEY"])
def test_white_space_around_a_token_is_not_of_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Files of secrets end in a line break, which no header can hold."""
    assert getattr(set_all(monkeypatch, **{name: " a b\r\n"}), name.lower()).get_secret_value() == "a b"


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS", "ADMIN_TOKEN", "REDIS_URL")
    settings = set_all(monkeypatch, BASIC_AUTH_USER="me", **dict.fromkeys(names, "secret-4711"))
    assert "secret-4711" not in repr(settings) + str(settings) + str(settings.model_dump())
    assert settings.basic_authorizations == ("Basic bWU6c2VjcmV0LTQ3MTE=",)


@pytest.mark.parametrize(
    ("password", "forms"),
    [("grün", ["bWU6Z3LDvG4=", "bWU6Z3L8bg=="]), ("綠", ["bWU657ag"])],
    ids=["in Latin-1 too", "in UTF-8 alone"],
)
def test_a_password_that_is_not_ascii_is_known_in_each_form_that_programs_send(
    password: str, forms: list[str]
) -> None:
    settings = Settings(basic_auth_user="me", basic_auth_pass=SecretStr(password))
    assert settings.basic_authorizations == tuple(f"Basic {form}" for form in forms)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9090"),
        ("0.0.0.0", "http://127.0.0.1:9090"),  # noqa: S104 - not listened on
        ("::", "http://[::1]:9090"),
        ("fe80::7", "http://[fe80::7]:9090"),
        ("labels.example.com", "http://labels.example.com:9090"),
    ],
)
def test_where_this_machine_reaches_the_server(monkeypatch: pytest.MonkeyPatch, host: str, url: str) -> None:
    assert set_all(monkeypatch, BACKEND_HOST=host).own_url == url


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LABEL_STUDIO_API_KEY", "ab\u200bcd", "invisible"),
        ("LABEL_STUDIO_API_KEY", "ab\ncd", "invisible"),
        ("LABEL_STUDIO_URL", "http://localhost:abc", "port"),
        ("LABEL_STUDIO_URL", "http://[::1", "host"),
    ],
)
def test_what_no_request_can_be_made_of_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    with pytest.raises(ValidationError, match=said) as refused:
        set_all(monkeypatch, **{name: value})
    assert refused.value.errors()[0]["loc"] == (name.lower(),)
