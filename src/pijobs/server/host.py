"""How a host application that mounts the server signs its administrators in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import flask

from pijobs.audit import Entry
from pijobs.server.accounts import Account

#: Key of ``app.extensions`` for the :class:`HostSignIn` of a mounted server.
HOST_SIGN_IN = "pijobs_host_sign_in"


@dataclass(frozen=True)
class HostSignIn:
    """How a host application identifies its administrators. Each function returns an account of the host, or None.

    The account's name contains the realm, if the host has realms. Its ``password_hash`` is any text that changes with
    the password.

    :param by_token: takes a token of the host.
    :param by_password: takes name and password.
    :param present: takes a name, and returns the current account; called for each page.
    :param audit: receives each entry of the audit log, for the host's own log.
    :param name: of the host, shown on the pages.
    :param mount: path below the host's root at which the server is mounted.
    :param replaces: plugins whose pages and routes are left out, since the host has its own.
    """

    by_token: Callable[[str], Account | None]
    by_password: Callable[[str, str], Account | None]
    present: Callable[[str], Account | None]
    audit: Callable[[Entry], None] | None = None
    name: str = ""
    mount: str = ""
    replaces: Collection[str] = ()


def host_sign_in() -> HostSignIn | None:
    """The current app's; None if the server has accounts of its own."""
    host: HostSignIn | None = flask.current_app.extensions.get(HOST_SIGN_IN)
    return host
