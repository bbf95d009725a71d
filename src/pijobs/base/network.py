"""Names, addresses and certificates of destinations on the network. For plugins."""

from __future__ import annotations

import functools
import ipaddress
import os
import queue
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from pijobs.base import clock, threads

#: Family, kind, protocol, canonical name and address, as of :func:`socket.getaddrinfo`.
Address = tuple[int, int, int, str, Any]


def is_local(host: str) -> bool:
    """Whether data for the host stays on this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def look_up(host: str, port: int, seconds: float) -> list[Address]:
    """What :func:`socket.getaddrinfo` gives for a host, within the seconds; at least one.

    The system's resolver has only its own time limit, which can be minutes. So a thread asks it, and is abandoned if it
    takes too long.

    :raises TimeoutError: when it takes too long; :class:`socket.gaierror` for a name without an address.
    """
    positive(seconds)
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)
        except UnicodeError as error:  # a label is too long for IDNA
            answers.put(socket.gaierror(socket.EAI_NONAME, str(error)))

    threads.Thread(target=ask, name="pijobs-look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("the name look-up timed out") from None
    if isinstance(answer, OSError):
        raise answer
    if not answer:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return answer


def addresses(host: str, port: int, seconds: float) -> Iterator[tuple[Address, float]]:
    """The addresses of a host, as :func:`look_up` gives them, each with its share of the seconds that are left.

    :raises TimeoutError: when they are over; other :class:`OSError` for a name without an address.
    """
    until = clock.monotonic() + seconds
    found = look_up(host, port, seconds)
    for index, place in enumerate(found):
        yield place, positive((until - clock.monotonic()) / (len(found) - index))


def positive(seconds: float) -> float:
    """The seconds for the time-out of a socket, where 0 means something else.

    :raises TimeoutError: if there are none left.
    """
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def tls_context(ca_file: str | None, *, verify: bool = True, any_name: bool = False) -> ssl.SSLContext:
    """A client context that verifies certificate and host name, by the system's authorities and those of ``ca_file``.

    Cached, because reading all authorities takes longer than a mail; read again when the file changes.

    :param verify: off: any certificate is accepted.
    :param any_name: a certificate for another host is accepted, to look at it.
    :raises OSError: for a file that can't be read, or is no PEM.
    """
    return _context(ca_file, os.stat(ca_file).st_mtime_ns if ca_file else 0, verify, any_name)


@functools.lru_cache(maxsize=32)
def _context(ca_file: str | None, _changed: int, verify: bool, any_name: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = not any_name
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
