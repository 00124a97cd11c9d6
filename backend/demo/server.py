"""A real Label Studio in a subprocess: start, wait, stop; knows nothing of projects, tasks or the backend."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from backend.demo.process import LOOPBACK, ManagedProcess, require_free_port
from backend.errors import Refused

REPOSITORY = Path(__file__).resolve().parents[2]
MIGRATION_SECONDS = 600.0  # patience with a machine that has much else to do
DATABASE = "label_studio.sqlite3"

# Loopback backends and webhooks allowed, no call leaves the machine. By default a backend that is silent for 1 s, or 3 s
# upon setup, cannot be connected and is asked for nothing: too short where one machine has to do all the work.
SETTINGS: Mapping[str, str] = {
    "SSRF_PROTECTION_ENABLED": "false",
    "ML_BLOCK_LOCAL_IP": "false",
    "USE_DEFAULT_BANNED_SUBNETS": "false",
    "LATEST_VERSION_CHECK": "false",
    "COLLECT_ANALYTICS": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "ML_CONNECTION_TIMEOUT": "60",
    "ML_TIMEOUT_HEALTH": "60",
    "ML_TIMEOUT_SETUP": "60",
}
# Nothing else of our environment reaches it: a stray HOST, PORT, USERNAME or PASSWORD changes what it does.
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")


@dataclass(frozen=True)
class Login:
    """The account that the first start creates."""

    email: str = "demo@example.com"
    password: str = "seggpt-demo"  # noqa: S105 - of a server that only this machine reaches


def default_venv(environment: Mapping[str, str] | None = None) -> Path:
    """Label Studio's own virtual environment: `LABEL_STUDIO_VENV`, else `.venv-label-studio` beside the code."""
    named = (os.environ if environment is None else environment).get("LABEL_STUDIO_VENV", "")
    return Path(named) if named else REPOSITORY / ".venv-label-studio"


def executable(venv: Path) -> Path:
    """The `label-studio` command of a virtual environment. Raises Refused where it is missing."""
    command = venv / "bin" / "label-studio"
    if not command.exists():
        raise Refused(
            f"There is no Label Studio in {venv}.",
            remedy="`make run` installs it there; LABEL_STUDIO_VENV names another place.",
        )
    return command


class LabelStudioServer:
    """One Label Studio on the loopback address, with its data in a folder of ours."""

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        login: Login | None = None,
        venv: Path | None = None,
        legacy_tokens: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare, without starting.

        Args:
            data_dir: where it keeps everything, its log `label-studio.log` too; made where missing.
            port: must be free, since Label Studio would silently take the next one.
            login: the account to create at the first start.
            venv: where Label Studio is installed; None for `default_venv()`.
            legacy_tokens: allow legacy tokens; only the first start of a folder looks at it.
            settings: more environment variables for it, winning over `SETTINGS`.
        """
        self.data_dir = data_dir.resolve()
        self.port = port
        self.login = login or Login()
        self.url = f"http://{LOOPBACK}:{port}"
        self.log = self.data_dir / "label-studio.log"
        self._venv = venv or default_venv()
        self._legacy_tokens = legacy_tokens
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: ManagedProcess | None = None

    @property
    def first_start(self) -> bool:
        """Whether starting will have to make the database, which takes half a minute or more."""
        return not (self.data_dir / DATABASE).exists()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.running

    def environment(self, outer: Mapping[str, str]) -> dict[str, str]:
        """The variables that Label Studio gets: its settings and the few of `outer` that it needs to run."""
        kept = {name: outer[name] for name in KEPT_VARIABLES if name in outer}
        return {**kept, "HOME": str(self.data_dir), **self._settings}

    def start(self, *, template: Path | None = None, port_option: str = "--label-studio-port") -> None:
        """Start and wait until it answers.

        Args:
            template: a data folder of a stopped Label Studio with the same login, copied where ours is new;
                saves the migration.
            port_option: named in the message where the port is taken.

        Raises:
            Refused: it is not installed, its port is taken, or it did not come up.
        """
        command = executable(self._venv)
        require_free_port(self.port, "Label Studio", port_option)
        if template is not None and self.first_start:
            shutil.copytree(
                template, self.data_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.log")
            )
        self.data_dir.mkdir(parents=True, exist_ok=True)
        arguments = ["start", "--no-browser", "--data-dir", str(self.data_dir), "--log-level", "INFO"]
        arguments += ["--port", str(self.port), "--internal-host", LOOPBACK]
        arguments += ["--username", self.login.email, "--password", self.login.password]
        if self._legacy_tokens:
            arguments.append("--enable-legacy-api-token")
        self._process = ManagedProcess(
            [str(command), *arguments], env=self.environment(os.environ), cwd=self.data_dir, log=self.log
        )
        self._process.start()
        try:
            self._process.wait_until_healthy(f"{self.url}/health/", "Label Studio", MIGRATION_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it and all its processes; does nothing where it is not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
