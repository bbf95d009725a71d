"""Hosts on this machine: network namespaces with names of their own on one switch. Only root may make them."""

from __future__ import annotations

import os
import random
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from services import missing, program


class Host:
    """:ivar prefix: what runs a command there; the process keeps its pid."""

    def __init__(self, name: str, address: str, space: str, switch: str) -> None:
        self.name, self.address, self._switch = name, address, switch
        self.space = f"/run/netns/{space}"
        self._port = f"to-{name}"[:15]
        inside = ["nsenter", f"--net={self.space}", "unshare", "--uts"]
        self.prefix = (*inside, "sh", "-c", 'hostname "$0" && exec "$@"', name)

    def plug(self) -> None:
        ip("-n", self._switch, "link", "set", self._port, "master", "switch")

    def unplug(self) -> None:
        """Packets get lost, and neither side is told."""
        ip("-n", self._switch, "link", "set", self._port, "nomaster")


@contextmanager
def hosts(*names: str) -> Iterator[list[Host]]:
    """Hosts that reach each other, and that this process reaches."""
    if os.geteuid() != 0:
        missing("root, which may make network namespaces,")
    for name in ("ip", "nsenter", "unshare", "hostname"):
        program(name)
    mark = uuid.uuid4().hex[:6]
    switch, subnet = f"pijobs-{mark}-switch", free_subnet()
    with ExitStack() as stack:
        namespace(stack, switch)
        try:
            ip("-n", switch, "link", "add", "switch", "type", "bridge")
        except AssertionError:
            pytest.skip("this kernel has no bridges between network namespaces")
        ip("-n", switch, "link", "set", "switch", "up")
        made = []
        for number, name in enumerate(names, 11):
            space = f"pijobs-{mark}-{name}"
            namespace(stack, space)
            host = Host(name, f"{subnet}.{number}", space, switch)
            ip("link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", host._port, "netns", switch)
            bring_up(["-n", space], "eth0", host.address, switch, host._port)
            ip("-n", space, "link", "set", "lo", "up")
            made.append(host)
        here = f"pijobs-{mark}"
        ip("link", "add", here, "type", "veth", "peer", "name", "to-here", "netns", switch)
        bring_up([], here, f"{subnet}.1", switch, "to-here")
        yield made


def free_subnet() -> str:
    """The first three numbers of addresses that no link here has, so that two runs do not meet.

    They are for tests between networks (RFC 2544): nobody's own network is hidden.
    """
    taken = subprocess.run(["ip", "-4", "addr", "show"], capture_output=True, text=True, check=True).stdout
    return random.choice([subnet for n in range(256) if f" {(subnet := f'198.18.{n}')}." not in taken])


def namespace(stack: ExitStack, name: str) -> None:
    ip("netns", "add", name)
    # Its links go with it, and so do their other ends.
    stack.callback(ip, "netns", "del", name)


def bring_up(where: list[str], link: str, address: str, switch: str, port: str) -> None:
    ip(*where, "addr", "add", f"{address}/24", "dev", link)
    ip(*where, "link", "set", link, "up")
    ip("-n", switch, "link", "set", port, "master", "switch", "up")


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
