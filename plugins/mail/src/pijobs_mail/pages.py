"""The pages of the SMTP servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pijobs.flask import current_queue
from pijobs.server.pages import PageBlueprint, definition_pages
from pijobs_mail.routes import send_test
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.servers.presets import PRESETS
from pijobs_mail.servers.probe import Probe, Step
from pijobs_mail.servers.server_address import with_port

#: Seconds that a step of the probe may take, because somebody waits for the page.
PATIENCE = 5.0
NAMES = {
    "dns": "Name", "tcp": "Connection", "tls": "TLS", "greeting": "Greeting", "features": "Features",
    "token": "Access token", "login": "Login", "smime": "S/MIME",
}  # fmt: skip


def make_pages() -> PageBlueprint:
    return definition_pages(
        open_store,
        name="smtp",
        title="SMTP servers",
        thing="SMTP server",
        columns={"server": "Server", "port": "Port", "tls": "STARTTLS", "description": "Description"},
        recipient="Mail address",
        group="smtp:",
        alarm=lambda row: "" if row["verify"] else "certificate not verified",
        test=lambda identifier, recipient: send_test({"identifier": identifier, "recipient": recipient}),
        examine=_examine,
        nothing_known="Own server",
        prepare=with_port,
        presets=PRESETS,
    )


def _examine(identifier: str) -> Iterator[Step]:
    settings = current_queue().settings
    definition = open_store(settings).get(identifier)
    examination = Probe({**definition, "timeout": min(definition["timeout"], PATIENCE)}, settings)
    for step in examination.walk():
        yield replace(step, name=NAMES.get(step.name, step.name))
