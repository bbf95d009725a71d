"""privacyIDEA's administrators as users of the queue's pages, and their roles.

An administrator is one of ``pi-manage`` (``root``) or of a realm in ``SUPERUSER_REALM`` (``alice@admins``). The name
includes the realm: the same login in two realms belongs to two people.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import flask

from pijobs.audit import Entry
from pijobs.base import clock
from pijobs.base.redact import describe
from pijobs.server.accounts import ROLES, Account, Role
from pijobs.server.host import HostSignIn
from pijobs_privacyidea.settings import ROLES as ROLES_SETTING

#: Seconds for which reading requests use a cached answer of a realm's resolver.
TRUST = 30.0
_REPLACED = ("mail", "sms")
_DETAIL = 50  # most characters of privacyIDEA's column, in all releases

log = logging.getLogger(__name__)


class Administrators:
    """The administrators of one privacyIDEA.

    :param app: privacyIDEA's.
    """

    def __init__(self, app: flask.Flask) -> None:
        self._app = app
        self._trusted: dict[str, tuple[float, Account]] = {}

    def sign_in(self, mount: str) -> HostSignIn:
        """For :func:`pijobs.server.create_app`."""
        # privacyIDEA has pages of its own for SMTP servers and SMS gateways.
        return HostSignIn(self.by_token, self.by_password, self.present, self.audit, "privacyIDEA", mount, _REPLACED)

    def by_token(self, token: str) -> Account | None:
        """The administrator of a token from privacyIDEA's ``POST /auth``; None for other users and invalid tokens."""
        from jwt import InvalidTokenError
        from privacyidea.api.lib.utils import verify_auth_token
        from privacyidea.lib.error import AuthError

        with self._app.test_request_context():  # the check looks at the request of privacyIDEA's app
            try:
                user = verify_auth_token(token, ["admin"])
            except (AuthError, InvalidTokenError):
                # Up to 3.12, privacyIDEA raises the latter for a token that names another algorithm.
                return None
            login, realm = str(user["username"]), str(user.get("realm") or "").lower()
            # Not by the full name: an administrator of pi-manage may be called alice@admins.
            return self._of_realm(login, realm) if realm else self._local(login)

    def by_password(self, name: str, password: str) -> Account | None:
        """The administrator, signed in by privacyIDEA's own ``POST /auth`` with its policies and audit; None if it
        refuses, or asks a challenge."""
        where = {"REMOTE_ADDR": flask.request.remote_addr, "HTTP_USER_AGENT": str(flask.request.user_agent)}
        form = {"username": name, "password": password}
        answer: Any = self._app.test_client().post("/auth", data=form, environ_overrides=where)
        try:
            token = answer.get_json(silent=True)["result"]["value"]["token"]
        except (KeyError, TypeError):  # refused, or a challenge
            return None
        return self.by_token(token)

    def present(self, name: str) -> Account | None:
        """The current administrator of this full name; None if there is none any more.

        Pages refresh each second. So reading requests use a resolver's answer for :data:`TRUST` seconds; others do not.
        """
        only_looks = flask.has_request_context() and flask.request.method == "GET"
        with self._app.test_request_context():
            if (local := self._local(name)) is not None:
                return local
            until, account = self._trusted.get(name, (0.0, None))
            if account is not None and clock.monotonic() < until and only_looks:
                return account
            login, _, realm = name.rpartition("@")
            return self._of_realm(login, realm)

    def audit(self, entry: Entry) -> None:
        """Write an entry of our audit log to privacyIDEA's audit, too, by the module of ``PI_AUDIT_MODULE``.

        Skips sign-ins: privacyIDEA's ``POST /auth`` has recorded them.
        """
        if entry.act in ("sign-in", "prove"):
            return
        from privacyidea.lib.audit import getAudit

        login, _, realm = entry.who.rpartition("@")
        known = bool(login) and realm in self._realms()
        detail = [entry.on, entry.about, ", ".join(entry.fields[:5]), entry.reason]
        row = {
            "action": f"jobqueue {entry.act}", "success": entry.outcome == "done", "client": entry.address,
            "administrator": login if known else entry.who, "realm": realm if known else "",
            "action_detail": "; ".join(filter(None, detail))[:_DETAIL], "info": entry.outcome,
            "privacyidea_server": socket.gethostname(),
        }  # fmt: skip
        try:
            with self._app.test_request_context():
                audit = getAudit(self._app.config)
                audit.log(row)
                audit.finalize_log()
        except Exception as error:  # any error of its module; our own log has the entry
            log.error("%s is not in privacyIDEA's audit: %s", entry.act, describe(error))

    def _local(self, name: str) -> Account | None:
        from privacyidea.lib.auth import get_db_admin

        admin = get_db_admin(name)
        if admin is None:
            return None
        login = str(admin.username)  # some databases ignore case in comparisons
        return Account(login, f"local {admin.password}", self._role(login, ""), 0)

    def _of_realm(self, login: str, realm: str) -> Account | None:
        from privacyidea.lib.user import User

        name = full_name(login, realm)
        self._trusted.pop(name, None)
        if not login or realm not in self._realms():
            return None
        user = User(login, realm=realm)
        if not user.exist():
            return None
        # Includes the identity, since another person may get the same login. Few resolvers return a password hash.
        known = f"{user.resolver}\0{user.uid}\0{(user.info or {}).get('password', '')}"
        digest = hashlib.sha256(known.encode("utf-8", "replace")).hexdigest()
        account = Account(name, f"realm {digest}", self._role(login, realm), 0)
        self._trusted[name] = (clock.monotonic() + TRUST, account)
        return account

    def _realms(self) -> list[str]:
        return [str(realm).lower() for realm in self._app.config.get("SUPERUSER_REALM", [])]

    def _role(self, login: str, realm: str) -> Role:
        return role_of(login, realm, self._app.config.get(ROLES_SETTING.name) or {})


def full_name(login: str, realm: str) -> str:
    """``alice@admins``; without a realm, the login."""
    return f"{login}@{realm.lower()}" if realm else login


def role_of(login: str, realm: str, roles: Mapping[str, Sequence[str]]) -> Role:
    """The highest role that names the administrator; viewer if none does."""
    own = {full_name(login, realm), f"@{realm.lower()}"} if realm else {login}
    for role in reversed(ROLES):
        for entry in roles.get(role, ()):
            name, at, where = entry.rpartition("@")
            if (f"{name}@{where.lower()}" if realm and at else entry) in own:
                return role
    return "viewer"
