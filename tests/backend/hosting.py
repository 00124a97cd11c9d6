"""label-studio-ml 1.0.9 in an environment of its own, and servers of it that run our model class."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from backend.demo.process import LOOPBACK, ManagedProcess, free_port

ROOT = Path(__file__).parents[2]
ADAPTER = ROOT / "backend" / "ml_base_adapter.py"
REQUIREMENTS = ROOT / "requirements-label-studio-ml.txt"


def installed() -> Path:
    """The `bin` of an environment with label-studio-ml 1.0.9; made once for each text of the requirements file."""
    version = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".cache" / f"label-studio-ml-{version}"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        python = str(folder / "bin" / "python")
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [python, "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)],
        ):
            subprocess.run(command, check=True)  # noqa: S603 - our own command line
        (folder / "installed").touch()
    return folder / "bin"


@contextmanager
def hosted(
    command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str]
) -> Iterator[httpx.Client]:
    """A server of label-studio-ml that runs in `folder` and logs to its `hosting.log`; a client of it."""
    variables = {**os.environ, "PYTHONPATH": str(folder), **environment}
    process = ManagedProcess(command, env=variables, cwd=folder, log=folder / "hosting.log")
    process.start()
    try:
        process.wait_until_healthy(f"http://{LOOPBACK}:{port}/health", "label-studio-ml", 300)
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=300, trust_env=False) as client:
            yield client
    finally:
        process.stop()


@contextmanager
def release_1_0_9(folder: Path, **environment: str) -> Iterator[httpx.Client]:
    """1.0.9 with our model class, set up and started by its own command, which takes the `python` on the path."""
    programs, port = installed(), free_port()
    command, script = str(programs / "label-studio-ml"), f"{ADAPTER}:SegGPTBackend"
    subprocess.run([command, "init", "mine", "--script", script], cwd=folder, check=True)  # noqa: S603 - our own
    start = [command, "start", "mine", "--port", str(port), "--host", LOOPBACK]
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    # Without the last one its own /train fails after /setup.
    variables = {"PATH": path, "LABEL_STUDIO_ML_BACKEND_V2": "true", **environment}
    with hosted(start, port, folder, variables) as client:
        yield client


@contextmanager
def todays(folder: Path, **environment: str) -> Iterator[httpx.Client]:
    """The stand-in for the repository's version, in an environment that has a real Flask."""
    package, port = folder / "label_studio_ml", free_port()
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("label_studio_ml_of_today.py"), package / "model.py")
    shutil.copy(ADAPTER, folder / "ours.py")
    start = [str(installed() / "python"), "-m", "label_studio_ml.model", "ours", str(port)]
    with hosted(start, port, folder, environment) as client:
        yield client
