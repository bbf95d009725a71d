"""Readiness of the SMS plugin."""

from __future__ import annotations

import os

from pijobs import Check, CheckResult, Settings
from pijobs.definitions import FALLBACK
from pijobs.errors import PijobsError
from pijobs_sms.gateways import PREFIX, open_store


def gateways_check(settings: Settings) -> Check:
    """Whether the gateways can be read and used. Connects to none."""
    return Check("sms_gateways", lambda: _check(settings))


def _check(settings: Settings) -> CheckResult:
    ca_file = settings[PREFIX + "CA_FILE"]
    if ca_file and not os.access(ca_file, os.R_OK):
        return CheckResult(False, f"the file of {PREFIX}CA_FILE can't be read", "make it readable for this user")
    try:
        store = open_store(settings)
        gateways = {identifier: store.get(identifier) for identifier in store.list()}
    except PijobsError as error:
        return CheckResult(False, f"an SMS gateway can't be read: {error}", "save it again, with its password")
    lost = [name for name, one in gateways.items() if one[FALLBACK.name] and one[FALLBACK.name] not in gateways]
    if lost:
        message = f"the fallback of SMS gateway {lost[0]!r} is not there: {gateways[lost[0]][FALLBACK.name]!r}"
        return CheckResult(True, message, "create it, or name another one", warning=True)
    return CheckResult(True, f"{len(gateways)} SMS gateways")
