"""HTTP servers on free loopback ports for tests: what they were asked, and what they answer."""

import json
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """What arrived: `target` is path and query, byte for byte."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


HANG_UP = Answer()
"""In place of an answer: the connection is closed."""


def as_json(content: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


class LoopbackServer:
    """A threaded HTTP server on a free loopback port; subclasses say what is answered."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.lock = threading.RLock()
        self._gone = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                with server.lock:
                    server.requests.append(request)
                answer = server.answer(request)
                if server._gone or answer is HANG_UP:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = _serve

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                if not isinstance(
                    sys.exception(), ConnectionError
                ):  # who hangs up early is nothing to report
                    super().handle_error(request, client_address)  # type: ignore[arg-type]

        def listen_on(port: int) -> Server:
            return Server(("127.0.0.1", port), Handler)

        self._listen_on = listen_on
        self._listen(0)

    def _listen(self, port: int) -> None:
        self._http = self._listen_on(port)
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def go_away(self) -> None:
        """As when its process ends: nobody is answered any more, on connections that were made before neither."""
        self._gone = True
        self.stop()

    def come_back(self) -> None:
        """Start again at the same address."""
        self._listen(self._http.server_port)
        self._gone = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class FakeBucket(LoopbackServer):
    """Another host: answers what `files` holds by path, and 400 to whoever brings an Authorization header."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Answer] = {}

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Hold a file; returns its address."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.files[path] = Answer(status, body, named)
        return self.url + path

    def answer(self, request: Request) -> Answer:
        if request.authorization:
            return Answer(400, b"<Error><Code>InvalidArgument</Code></Error>")
        return self.files.get(request.path, Answer(404))
