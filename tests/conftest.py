"""What every test stands on: an environment without our settings, and what happens where a service is missing."""

import os
import shutil
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from backend.settings import Settings

# As Hypothesis itself has it in CI: on a busy machine a step of any test may take half a minute.
settings.register_profile(
    "any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.alias or name).upper(), raising=False)
    # A developer's .env must not decide a test either.
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """Say that a service is missing: a failure in CI, a skip on a laptop."""

    def say(reason: str) -> NoReturn:
        if os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail(f"{reason} (CI has to bring it)", pytrace=False)
        pytest.skip(reason)

    return say


@pytest.fixture(scope="session")
def redis_installed(missing: Callable[[str], NoReturn]) -> None:
    """A test that asks for it needs `redis-server`."""
    if shutil.which("redis-server") is None:
        missing("no redis-server (Debian's package redis-server)")
