"""A host that the server is mounted in, and that knows its own administrators."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import flask

from pijobs.audit import Entry
from pijobs.server.accounts import Account

#: Key of ``app.extensions`` for the :class:`HostSignIn`, where the server is mounted in somebody else's.
HOST_SIGN_IN = "pijobs_host_sign_in"


@dataclass(frozen=True)
class HostSignIn:
    """How a host knows its administrators. Each function gives an account of the host, or None.

    The account's name tells the realm, where the host has realms; its ``password_hash`` is anything that changes with
    the password.

    :param by_token: of the host.
    :param by_password: name and password.
    :param present: the account of one who signed in, as it is now; asked for each page.
    :param audit: is told each entry of the audit log, for the host's own one.
    :param name: of the host, for people.
    :param mount: the path below the host that the server is mounted at; what is before it is the host.
    :param replaces: plugins whose pages and routes are left out, since the host has its own for what they are about.
    """

    by_token: Callable[[str], Account | None]
    by_password: Callable[[str, str], Account | None]
    present: Callable[[str], Account | None]
    audit: Callable[[Entry], None] | None = None
    name: str = ""
    mount: str = ""
    replaces: Collection[str] = ()


def host_sign_in() -> HostSignIn | None:
    """That of the present app; None where it has accounts of its own."""
    host: HostSignIn | None = flask.current_app.extensions.get(HOST_SIGN_IN)
    return host
