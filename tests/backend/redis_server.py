"""A real Redis server for tests: on a free loopback port, in its own folder, killed and started again at will."""

import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from backend.demo.process import free_port

EXECUTABLE = "redis-server"
_START_SECONDS = 120.0


class RedisServer:
    """Every acknowledged write is on the disk (`appendfsync always`) unless `options` say otherwise."""

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "logfile": "redis.log",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
        try:
            self._wait_until_up(self._process)
        except BaseException:
            self.kill()
            raise

    def _wait_until_up(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no Redis: {self.log()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def send(self, how: signal.Signals) -> None:
        """Let it hang (SIGSTOP) or go on (SIGCONT)."""
        assert self._process is not None
        self._process.send_signal(how)

    def client(self) -> "redis.Redis":
        """A connection past the store's back; to be closed."""
        password = self._options.get("requirepass")
        return redis.Redis(port=self.port, password=password, protocol=2)

    def flush(self) -> None:
        """Let every database be empty."""
        with self.client() as client:
            client.flushall()

    def log(self) -> str:
        file = self.folder / "redis.log"
        return file.read_text(encoding="utf-8", errors="replace")[-2000:] if file.exists() else "no log"

    def _command(self) -> list[str]:
        command = [EXECUTABLE]
        for name, value in self._options.items():
            command += [f"--{name}", *(value.split() if name == "replicaof" else [value])]
        return command

    def _is_up(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Sentinel(RedisServer):
    """Watches the primary on a port as `ours`; tells where it is, and changes nothing by itself."""

    def __init__(self, folder: Path, primary: int) -> None:
        super().__init__(folder)
        self._primary = primary

    def watch(self, primary: int) -> None:
        """From now on the primary is on another port."""
        with self.client() as client:
            client.execute_command("SENTINEL", "REMOVE", "ours")
            client.execute_command("SENTINEL", "MONITOR", "ours", "127.0.0.1", str(primary), "1")

    def _command(self) -> list[str]:
        settings = self.folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind 127.0.0.1\nlogfile {self.folder / 'redis.log'}\n"
            f"sentinel monitor ours 127.0.0.1 {self._primary} 1\n"
        )
        return [EXECUTABLE, str(settings), "--sentinel"]
