"""`serve` and `worker`: the two processes that run for long."""

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from backend.cli.main import app, console, settings_with
from backend.errors import BackendError
from backend.metrics import Metrics
from backend.settings import Settings

log = logging.getLogger(__name__)

_TO_END = (signal.SIGTERM, signal.SIGINT)

DataDir = Annotated[Path | None, typer.Option(help="Folder for store and queue (DATA_DIR).")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (BACKEND_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (PORT).")] = None,
    data_dir: DataDir = None,
) -> None:
    """Answer Label Studio; learns and predicts ahead in a worker process, or itself (WORKER)."""
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
    backend = build(settings, patient=True)
    parse("<View/>")  # the SDK's parser takes most of a second to import: not within the first look
    where = _where_to_work(settings, backend.segmenter.device.type)
    worker = Supervisor([sys.executable, "-m", "backend", "worker", "--listen"], _environment(settings))
    jobs = Jobs(settings, backend if where == "inside" else None)
    lanes = _Lanes(jobs.run)

    def learned(hostname: str, access_token: str) -> None:
        if access_token:
            worker.tell({"hostname": hostname, "access_token": access_token})

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if where == "on":
            worker.start()
        elif where == "inside":
            lanes.start()
        console.print(
            f"SegGPT ({backend.checkpoint}, {backend.segmenter.device}) on http://{settings.host}:{settings.port}"
        )
        yield
        worker.stop()
        if lanes.stop():
            backend.close()
        else:
            _say_unfinished()
            _leave_at_once()

    uvicorn.run(
        create_app(backend, jobs, lifespan, learned),
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
    _set_on_signals(stop)
    backend = build(settings, patient=True)

    def hear() -> None:
        for line in sys.stdin:
            told = json.loads(line)
            backend.label_studio.learn_from_setup(told["hostname"], told["access_token"])
        stop.set()  # the server that started us is gone

    if listen:
        threading.Thread(target=hear, name="stdin", daemon=True).start()
    _show_figures(settings, backend.metrics)
    if Jobs(settings, backend).run(stop):
        backend.close()
    else:
        _say_unfinished()
    _leave_at_once()  # Python's own end gives signals back to the system, and the next one would kill


def _set_on_signals(stop: threading.Event) -> None:
    """Let SIGTERM and SIGINT set an event.

    A thread does it that is told by the system's own handler. A handler in Python runs in the middle of whatever the
    main thread does, and would wait for the event's lock for ever where that holds it, be it in an earlier handler.
    """
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)

    def hear() -> None:
        with told:
            while heard.recv(1):
                stop.set()

    for number in _TO_END:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=hear, name="signals", daemon=True).start()


def _show_figures(settings: Settings, metrics: Metrics) -> None:
    """Answer `/metrics` where a port is set; a worker without figures is better than none."""
    if not settings.worker_metrics_port:
        return
    try:
        metrics.show(settings.host, settings.worker_metrics_port)
    except OSError as error:
        log.warning("WORKER_METRICS_PORT %d: no figures: %s", settings.worker_metrics_port, error)


def _where_to_work(settings: Settings, device: str) -> str:
    """`on`, `inside` or `off`. A GPU's memory is dear: there one process holds the weights once, for all."""
    if settings.worker != "auto":
        return settings.worker
    return "inside" if device == "cuda" else "on"


class _Lanes:
    """The worker's lanes in a thread of this process."""

    def __init__(self, run: Callable[[threading.Event], bool]) -> None:
        self._run = run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._ended = True

    def start(self) -> None:
        """Begin to work."""
        self._ended = False
        self._thread.start()

    def stop(self) -> bool:
        """Let jobs come to their end for some seconds; whether all have, so that what they use may be closed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        return self._ended

    def _work(self) -> None:
        try:
            self._ended = self._run(self._stop)
        except Exception:  # nobody would learn any more, unseen: whoever started the server starts it again
            log.exception("the worker's lanes have failed; the server ends")
            os.kill(os.getpid(), signal.SIGTERM)


def _say_unfinished() -> None:
    """Threads still work: closing what they use would let each of them fail, with a page."""
    log.warning("the worker ends in the middle of a job, which is done again later")


def _leave_at_once() -> NoReturn:
    """End the process, with its threads and its handlers of signals as they are."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


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
