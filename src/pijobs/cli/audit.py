"""``pijobs audit …``: who did what."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, pass_invocation, who

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def audit() -> None:
    """The audit log: who did what, when, on what, and with what outcome. List, verify, export, erase."""


@audit.command("list")
@click.option("--who", "name", help="Only entries by this person, or about this person.")
@click.option("--act", help="Only this act, or acts that begin with it: 'sign-in', 'job.', 'definition.'")
@click.option("--before", type=click.IntRange(1), help="Only entries before this number.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="Show at most this many (default 50).")
@json_option
@pass_invocation
@looks
def list_entries(
    invocation: Invocation, name: str | None, act: str | None, before: int | None, limit: int, as_json: bool
) -> None:
    """List the entries, the newest first."""
    from pijobs.audit import AuditLog

    found = AuditLog.of(invocation.settings()).newest(who=name, act=act, before=before, limit=limit)
    rows = [one.shown() for one in found]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(_line(row))
    if not rows:
        click.echo("no entries")


@audit.command()
@click.option("--expect", metavar="NUMBER:DIGEST", help="A head printed earlier: that entry must still exist.")
@pass_invocation
@looks
def verify(invocation: Invocation, expect: str | None) -> int:
    """Check whether an entry was changed, removed or inserted. Exit code 1 if so.

    Prints the head. Keep it elsewhere: somebody who can write to the database can remove the newest entries, and only
    --expect detects that.
    """
    from pijobs.audit import AuditLog
    from pijobs.audit.verify import verify as look
    from pijobs.payload.keys import KeyRing

    settings, noted = invocation.settings(), None
    if expect is not None:
        match = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", expect)
        if match is None:
            raise click.UsageError("--expect: expected a number, a colon and 64 hex digits, as this command prints it")
        noted = int(match[1]), match[2]
    found = look(AuditLog.of(settings), KeyRing.of(settings), noted)
    for fault in found.faults:
        click.echo(fault, err=True)
    erased = f", {found.erased} of them erased" if found.erased else ""
    click.echo(f"{found.entries} entries{erased}; head {found.last[0]}:{found.last[1]}")
    return 1 if found.faults else 0


@audit.command()
@click.argument("name")
@pass_invocation
@looks
def export(invocation: Invocation, name: str) -> None:
    """Print everything stored about a person, as JSON: entries of the audit log, and sessions."""
    from pijobs.audit import AuditLog
    from pijobs.server.sessions import Sessions

    settings = invocation.settings()
    entries = AuditLog.of(settings).newest(who=name, limit=10**9)
    kept = ("kind", "created", "seen", "until", "address", "agent")
    sessions = [{part: getattr(one, part) for part in kept} for one in Sessions.of(settings).list(name)]
    click.echo(json.dumps({"audit": [one.shown() for one in entries], "sessions": sessions}, indent=2))


@audit.command()
@click.argument("name")
@click.option("--reason", prompt=True, help="Why; for the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@pass_invocation
def erase(invocation: Invocation, name: str, reason: str, yes: bool) -> None:
    """Erase a person's name, addresses and reasons from the audit log, and end the person's sessions.

    The entries stay, and their chain stays valid. Run 'pijobs admin remove' first, to remove the account.
    """
    from pijobs.audit import AuditLog, Entry
    from pijobs.server.sessions import Sessions

    settings = invocation.settings()
    if not yes:
        click.confirm(f"erase {name} from the audit log? That can't be undone", abort=True)
    Sessions.of(settings).forget(name)
    number = AuditLog.of(settings).erase(name, Entry("", who=who(), role="command", reason=reason))
    click.echo(f"{number} entries erased")


def _line(row: Mapping[str, Any]) -> str:
    at = dt.datetime.fromtimestamp(row["at"] / 1000, dt.timezone.utc).isoformat(timespec="seconds")
    words = [
        f"{row['seq']}  {at}  {row['act']} {row['outcome']}",
        f"by {row['who'] or 'nobody'}" + (f" ({row['role']})" if row["role"] else ""),
        f"from {row['address']}" if row["address"] else "",
        f"on {row['on']}" if row["on"] else "",
        f"about {row['about']}" if row["about"] else "",
        f"[{', '.join(row['fields'][:5])}{', …' if len(row['fields']) > 5 else ''}]" if row["fields"] else "",
        f"because: {row['reason']}" if row["reason"] else "",
    ]
    # A name that a stranger tried may contain control characters for a terminal.
    return "".join(one if one.isprintable() else "?" for one in "  ".join(filter(None, words)))
