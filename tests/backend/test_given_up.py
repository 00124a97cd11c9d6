"""A server that stands still for a while, as on a busy machine, and what Label Studio sent it meanwhile."""

import json
import signal
import socket
from collections.abc import Callable

import pytest

from tests.backend.served import PROJECT, Served, until


@pytest.mark.slow
@pytest.mark.parametrize("padding", [0, 5_000, 100_000])
def test_an_event_whose_sender_has_given_up_is_kept(serve: Callable[..., Served], padding: int) -> None:
    """Label Studio waits one second and never sends it again; it was dropped, since whoever sent it had hung up."""
    served = serve(WORKER="off")
    body = json.dumps({"action": "PROJECT_UPDATED", "project": PROJECT, "padding": "x" * padding}).encode()
    head = f"POST /webhook HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    served.process.send_signal(signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", served.port)) as sender:
        sender.sendall(head + body)
    served.process.send_signal(signal.SIGCONT)

    until(lambda: "\nseggpt_pending_events 1.0\n" in served.client.get("/metrics").text)
