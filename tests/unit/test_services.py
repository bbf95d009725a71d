"""What the tests stand on."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

from services import PORTS, free_port


def test_no_port_is_given_out_twice() -> None:
    with ThreadPoolExecutor(4) as threads:
        ports = list(threads.map(lambda _: free_port(), range(40)))
    assert len({*ports}) == 40 and {*ports} <= {*PORTS}


def test_no_port_is_one_of_those_that_outgoing_connections_get() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert probe.getsockname()[1] not in PORTS
