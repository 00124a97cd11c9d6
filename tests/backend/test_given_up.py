"""A server that stands still for a while, as on a busy machine, and what Label Studio sent it meanwhile."""

import json
import signal
import socket
from collections.abc import Callable
from functools import partial

import pytest

from tests.backend.served import PROJECT, Served, until


@pytest.mark.slow
def test_an_event_whose_sender_has_given_up_is_kept(serve: Callable[..., Served]) -> None:
    """Label Studio waits one second and never sends it again; it was dropped, since whoever sent it had hung up."""
    served = serve(WORKER="off")
    for count, padding in enumerate([0, 5_000, 100_000], 1):
        body = json.dumps(
            {"action": "PROJECT_UPDATED", "project": PROJECT, "padding": "x" * padding}
        ).encode()
        head = f"POST /webhook HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()

        served.process.send_signal(signal.SIGSTOP)
        try:
            with socket.create_connection(("127.0.0.1", served.port), timeout=60) as sender:
                sender.sendall(head + body)
        finally:
            served.process.send_signal(signal.SIGCONT)

        kept = f"\nseggpt_pending_events {count}.0\n"
        until(partial(tells, served, kept), what=f"the event of {len(body)} bytes")


def tells(served: Served, figure: str) -> bool:
    return figure in served.client.get("/metrics").text
