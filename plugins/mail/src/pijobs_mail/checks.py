"""Readiness of the mail plugin."""

from __future__ import annotations

import os

from pijobs.errors import PijobsError
from pijobs.hookspecs import Check, CheckResult
from pijobs.settings import Settings
from pijobs_mail.servers import PREFIX, endpoint, open_store


def definitions_check(settings: Settings) -> Check:
    """Whether the SMTP servers can be read (the key fits) and used. Connects to none."""
    return Check("smtp_servers", lambda: _check(settings))


def _check(settings: Settings) -> CheckResult:
    ca_file = settings[PREFIX + "CA_FILE"]
    if ca_file and not os.access(ca_file, os.R_OK):
        return CheckResult(False, f"the file of {PREFIX}CA_FILE can't be read", "make it readable for this user")
    try:
        store = open_store(settings)
        identifiers = list(store.list())
        for identifier in identifiers:
            endpoint(store.get(identifier), settings)
    except (PijobsError, ValueError) as error:
        return CheckResult(False, f"an SMTP server can't be read: {error}", "save it again, with its password")
    return CheckResult(True, f"{len(identifiers)} SMTP servers")
