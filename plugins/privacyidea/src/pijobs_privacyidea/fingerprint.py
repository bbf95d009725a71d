"""Which SMTP servers and SMS gateways this process finds in privacyIDEA's database.

Two hosts may use different names for one database, or the same name for different ones. If each has its own replica,
the facts about the database server differ, too. So the fingerprint compares what the jobs need: the definitions. If a
worker finds other definitions than the server, or none, the check ``definitions`` reports it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flask

from pijobs import Settings
from pijobs.definitions import Fingerprint
from pijobs_privacyidea.host import Host

log = logging.getLogger(__name__)


class DefinitionsFingerprint(Fingerprint):
    """Identifies a set of definitions, in a process with privacyIDEA's app. Other processes have none."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        #: privacyIDEA's app, for calls outside of its context.
        self.host: Host | None = None

    @property
    def place(self) -> str:
        return "the database of privacyIDEA"

    @classmethod
    def install(cls, settings: Settings) -> DefinitionsFingerprint:
        """For an installation with privacyIDEA's definitions. Call it before any other fingerprint is created."""
        found = settings.resource(Fingerprint, lambda: cls(settings))
        assert isinstance(found, cls)
        return found

    def _read(self, make: bool) -> str | None:
        context = self._context()
        if context is None:
            return None
        try:
            with context:
                found = json.dumps(sorted(_definitions()))
        except Exception as error:  # from privacyIDEA or a driver; jobs that need the database report it
            log.debug("privacyIDEA's definitions can't be read: %s", type(error).__name__)
            return None
        return hashlib.sha256(found.encode()).hexdigest()[:16]

    def _context(self) -> AbstractContextManager[Any] | None:
        if self.host is not None:
            self.host.after_fork()
            return self.host.app.app_context()
        # What privacyIDEA keeps in its app, see get_app_local_store.
        within = flask.has_app_context() and "_app_local_store" in flask.current_app.config
        return nullcontext() if within else None


def _definitions() -> list[list[str]]:
    """The fields that distinguish destinations, without secrets."""
    from privacyidea.lib.smsprovider.SMSProvider import get_smsgateway
    from privacyidea.lib.smtpserver import get_smtpservers

    servers = (server.config for server in get_smtpservers())
    return [
        *(["smtp", *map(str, (row.identifier, row.server, row.port, row.username, row.sender))] for row in servers),
        *(["sms", str(row.identifier), str(row.providermodule)] for row in get_smsgateway()),
    ]
