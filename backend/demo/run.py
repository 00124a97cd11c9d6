"""`make run`: the demo, or the backend for a Label Studio that exists; knows the order of steps, not how they work."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from backend.demo.first_look import APPROVED, FirstLook, mean_ious, table
from backend.demo.pictures import demo_pictures
from backend.demo.process import LOOPBACK, ManagedProcess, require_free_port
from backend.demo.server import REPOSITORY, LabelStudioServer, default_venv, executable
from backend.demo.session import Session
from backend.errors import BackendError, LabelStudioError, Refused
from backend.settings import Settings

PROJECT = "SegGPT demo"
BACKEND_SECONDS = 300.0  # patience, as with Label Studio
WATCH_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until Ctrl-C; returns the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)  # SIGINT too: in a script's background job it comes ignored
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` stays in force
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        settings = Settings()
        options = _options(arguments, settings)
        if settings.label_studio_url:
            return _serve_existing(options, settings, console)
        return _demo(options, console)
    except ValidationError as error:
        for problem in error.errors():
            name = str(problem["loc"][0]).upper() if problem["loc"] else "settings"
            console.print(f"[red]{name}:[/red] {escape(problem['msg'])}")
        return 2
    except BackendError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0


def _options(arguments: Sequence[str] | None, settings: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m backend.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=settings.port, help="port of the backend")
    parser.add_argument("--label-studio-port", type=int, default=8080, help="port of the demo's Label Studio")
    parser.add_argument("--once", action="store_true", help="stop both servers after the first look")
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(os.environ.get("DEMO_DIR") or REPOSITORY / ".demo"),
        help="where the demo keeps its data (or DEMO_DIR)",
    )
    return parser.parse_args(arguments)


def _backend(arguments: Sequence[str], variables: Mapping[str, str], log: Path) -> ManagedProcess:
    """The backend's own command as a process."""
    command = [sys.executable, "-m", "backend", "serve", *arguments]
    return ManagedProcess(command, env={**os.environ, **variables}, cwd=REPOSITORY, log=log)


def _serve_existing(options: argparse.Namespace, settings: Settings, console: Console) -> int:
    if not settings.label_studio_api_key.get_secret_value():
        raise Refused(
            "LABEL_STUDIO_URL is set, but LABEL_STUDIO_API_KEY is not.",
            remedy="Copy a token from Label Studio's Account & Settings > Personal Access Token.",
        )
    require_free_port(options.port, "the backend", "--port (or PORT)")
    log = options.dir.resolve() / "backend.log"
    backend = _backend(["--port", str(options.port)], {}, log)
    url = settings.model_copy(update={"port": options.port}).own_url
    with ExitStack() as running:
        running.callback(backend.stop)
        running.callback(_ignore_signals)
        backend.start()
        backend.wait_until_healthy(f"{url}/health", "The backend", BACKEND_SECONDS)
        console.print(f"The backend serves {settings.label_studio_url}; its log is {log}.")
        console.print("In your project, Settings > Model > Connect Model, enter")
        console.print("  Name         SegGPT")
        console.print(f"  Backend URL  {url}   (or however your Label Studio reaches this machine)")
        console.print("A private address is refused unless Label Studio runs with")
        console.print("  ML_BLOCK_LOCAL_IP=false SSRF_PROTECTION_ENABLED=false")
        console.print("`python -m backend doctor` checks the connection. Ctrl-C stops the backend.")
        if options.once:
            return 0
        return _watch({"The backend": backend}, console)


def _demo(options: argparse.Namespace, console: Console) -> int:
    folder: Path = options.dir.resolve()
    server = LabelStudioServer(folder / "label-studio", options.label_studio_port)
    executable(default_venv())
    require_free_port(options.label_studio_port, "Label Studio", "--label-studio-port")
    require_free_port(options.port, "the backend", "--port (or PORT)")
    with ExitStack() as running:
        running.callback(server.stop)
        running.callback(_ignore_signals)
        took = (
            "the first start makes its database: about half a minute"
            if server.first_start
            else "a few seconds"
        )
        with console.status(f"Starting Label Studio ({took}) ..."):
            console.print(f"Starting Label Studio ({took}).")
            server.start()
        session = Session(server.url, server.login)
        running.callback(session.close)
        token = _personal_token(session, folder / "personal-token")
        variables = {"LABEL_STUDIO_URL": server.url, "LABEL_STUDIO_API_KEY": token}
        arguments = ["--host", LOOPBACK, "--port", str(options.port), "--data-dir", str(folder / "backend")]
        backend = _backend(arguments, variables, folder / "backend.log")
        running.callback(backend.stop)
        running.callback(_ignore_signals)  # first of all, so that a second Ctrl-C leaves nothing running
        console.print("Starting the backend.")
        backend.start()
        backend.wait_until_healthy(f"http://{LOOPBACK}:{options.port}/health", "The backend", BACKEND_SECONDS)
        project, complete = _look(session, f"http://{LOOPBACK}:{options.port}", console)
        if options.once:
            return 0 if complete else 1
        _say_where(console, server, project, options.port)
        return _watch({"Label Studio": server, "The backend": backend}, console)


def _look(session: Session, backend_url: str, console: Console) -> tuple[int, bool]:
    """Set the project up where it is not, do the first look; returns the project and whether all was predicted."""
    config = (REPOSITORY / "label_config.xml").read_text()
    found = session.find_project(PROJECT)
    project = int((found or session.create_project(PROJECT, config))["id"])
    look = FirstLook(session, project, _connected(session, project, backend_url), demo_pictures())
    missing = look.missing()
    if missing:
        console.print(f"Uploading {len(missing)} pictures to the project '{PROJECT}'.")
        session.upload(project, {picture.name: picture.png() for picture in missing})
    if look.approve(console.print) == 0:
        console.print(f"The first {APPROVED} pictures have their annotations already.")
    with console.status("Waiting for the other tasks to be pre-annotated ...") as status:
        rows = look.wait(lambda done, all_: status.update(f"Pre-annotated: {done} of {all_} tasks"))
    console.print(table(rows))
    complete = bool(mean_ious(rows)) and all(row.state != "waiting" for row in rows)
    if not complete:
        console.print("[yellow]Not every task has been predicted; the backend's log may tell why.[/yellow]")
    return project, complete


def _connected(session: Session, project: int, url: str) -> int:
    """Label Studio's id of the backend at `url`, connected with its webhook; what is left of other ports goes."""
    hooks = {webhook["url"] for webhook in session.webhooks(project)}
    for connected in session.backends(project):
        if connected["url"].rstrip("/") == url and f"{url}/webhook" in hooks:
            return int(connected["id"])
        session.disconnect(project, int(connected["id"]))
    return session.connect(project, url)


def _personal_token(session: Session, kept: Path) -> str:
    """The personal access token of an earlier run where it still works, else a new one, kept for the next run."""
    if kept.exists():
        token = kept.read_text().strip()
        with suppress(LabelStudioError):
            session.call("POST", "/api/token/refresh/", json={"refresh": token})
            return token
    token = session.new_personal_token()
    kept.touch(mode=0o600)
    kept.write_text(token)
    return token


def _say_where(console: Console, server: LabelStudioServer, project: int, port: int) -> None:
    console.print(
        f"Logs: {server.log} and {server.data_dir.parent / 'backend.log'}. Ctrl-C stops both servers."
    )
    console.print(f"Backend       http://{LOOPBACK}:{port}")
    console.print(f"Label Studio  {server.url}/projects/{project}/data")
    console.print(f"Login         {server.login.email}  password {server.login.password}")


class _Running(Protocol):
    @property
    def running(self) -> bool: ...


def _watch(processes: Mapping[str, _Running], console: Console) -> int:
    """Stay until Ctrl-C, or until a process ends by itself: then 1."""
    while True:
        for name, process in processes.items():
            if not process.running:
                console.print(f"[red]{name} has ended by itself.[/red]")
                return 1
        time.sleep(WATCH_SECONDS)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """Not by SIG_IGN: Python prints an error about a signal that comes while that is set."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
