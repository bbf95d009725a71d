"""The pages of the SMTP servers."""

from __future__ import annotations

from pijobs.server.pages import PageBlueprint, definition_pages
from pijobs_mail.routes import send_test
from pijobs_mail.servers import DEFINITIONS, with_port


def make_pages() -> PageBlueprint:
    return definition_pages(
        DEFINITIONS,
        name="smtp",
        title="SMTP servers",
        thing="SMTP server",
        columns={"server": "Server", "port": "Port", "tls": "STARTTLS", "description": "Description"},
        recipient="Mail address",
        alarm=lambda row: "" if row["verify"] else "certificate not verified",
        test=lambda identifier, recipient: send_test({"identifier": identifier, "recipient": recipient}),
        prepare=with_port,
    )
