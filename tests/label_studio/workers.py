"""Which process is the worker of a server."""

from pathlib import Path

from tests.label_studio.stage import RunningBackend


def worker_of(backend: RunningBackend) -> int:
    """Process id of the worker that `serve` keeps running; 0 while there is none."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == backend.process.pid and b"worker" in command:
            return int(folder.name)
    return 0
