"""A real `worker` process, seen from outside."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from backend.settings import Settings
from tests.backend.served import ROOT


class Worker:
    """A `worker` process with these settings, and what it said."""

    def __init__(self, settings: Settings, log: Path) -> None:
        given = {
            "CHECKPOINT": settings.checkpoint, "DEVICE": "cpu", "LABEL_STUDIO_URL": settings.label_studio_url,
            "LABEL_STUDIO_API_KEY": settings.label_studio_api_key.get_secret_value(), "COLUMNS": "300",
            "REDIS_URL": settings.redis_url.get_secret_value(), "IMAGE_TIMEOUT": "300", "TUNE_EVERY": "0",
            "WORKER_METRICS_PORT": str(settings.worker_metrics_port),
        }  # fmt: skip
        command = [sys.executable, "-m", "backend", "worker", "--data-dir", str(settings.data_dir)]
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                command, cwd=ROOT, env={**os.environ, **given}, stdout=out, stderr=out
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        """Tell it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(300)
