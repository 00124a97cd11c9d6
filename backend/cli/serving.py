"""`serve` and `worker`: the two processes that run for long."""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from backend.cli.main import app, console, settings_with
from backend.errors import BackendError
from backend.settings import Settings

DataDir = Annotated[Path | None, typer.Option(help="Folder for store and queue (DATA_DIR).")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (BACKEND_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (PORT).")] = None,
    data_dir: DataDir = None,
) -> None:
    """Answer Label Studio; starts and supervises a worker unless WORKER=off."""
    settings = settings_with({"BACKEND_HOST": host, "port": port, "data_dir": data_dir})
    _refuse_taken_port(settings)
    _share_cores(1)

    import uvicorn  # commands that serve nothing do without
    from fastapi import FastAPI

    from backend.app import create_app  # loads torch
    from backend.jobs import Jobs
    from backend.label_config import parse
    from backend.supervisor import Supervisor
    from backend.wiring import build, configure_logging

    configure_logging(settings)
    backend = build(settings)
    parse("<View/>")  # the SDK's parser takes most of a second to import: not within the first look
    worker = Supervisor([sys.executable, "-m", "backend", "worker", "--listen"], _environment(settings))

    def learned(hostname: str, access_token: str) -> None:
        if access_token:
            worker.tell({"hostname": hostname, "access_token": access_token})

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if settings.worker == "on":
            worker.start()
        console.print(
            f"SegGPT ({backend.checkpoint}, {backend.segmenter.device}) on http://{settings.host}:{settings.port}"
        )
        yield
        worker.stop()
        backend.close()

    uvicorn.run(
        create_app(backend, Jobs(settings), lifespan, learned),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )


@app.command()
def worker(
    data_dir: DataDir = None,
    listen: Annotated[bool, typer.Option(help="Take host name and token as lines of JSON on stdin.")] = False,
) -> None:
    """Learn from events and predict ahead; `serve` starts one of these itself."""
    settings = settings_with({"data_dir": data_dir})
    _share_cores(2)

    from backend.jobs import Jobs  # loads torch
    from backend.wiring import build, configure_logging

    configure_logging(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    backend = build(settings)

    def hear() -> None:
        for line in sys.stdin:
            told = json.loads(line)
            backend.label_studio.learn_from_setup(told["hostname"], told["access_token"])
        stop.set()  # the server that started us is gone

    if listen:
        threading.Thread(target=hear, name="stdin", daemon=True).start()
    Jobs(settings, backend).run(stop)
    backend.close()


def _share_cores(part: int) -> None:
    """Before torch is loaded: threads that wait must sleep, and the worker takes one of `part` parts of the cores.

    OpenMP's threads spin while they wait for each other. Where a server, its worker and Label Studio share few cores,
    that made a prediction twenty times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if part > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // part)))


def _environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, "DATA_DIR": str(settings.data_dir.resolve()), "BACKEND_HOST": settings.host}


def _refuse_taken_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise BackendError(
                f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.",
                remedy="Stop what listens there, or choose another port with --port.",
            ) from None
