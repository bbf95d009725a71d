"""``pijobs admin …``: accounts of the server."""

from __future__ import annotations

import datetime as dt
import json
import sys

import click

from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, audit, pass_invocation
from pijobs.cli.machine_tokens import token

stdin_option = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@click.group()
def admin() -> None:
    """The accounts of the server: add, list, remove, password, second-factor, sign-out; and tokens for
    machines."""


@admin.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["admin", "operator", "viewer", "helpdesk"]),
    default="admin",
    help="helpdesk finds one person's messages, viewer sees all jobs, operator acts on them, admin (default) edits"
    " definitions, too.",
)
@stdin_option
@pass_invocation
def add(invocation: Invocation, name: str, role: str, password_stdin: bool) -> None:
    """Add an account."""
    from pijobs.server.accounts import Accounts

    settings = invocation.settings()
    Accounts.of(settings).add(name, _password(password_stdin), role)
    audit(settings, "account.add", on=role, about=name)
    click.echo(f"account {name} ({role}) added")


@admin.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
@looks
def list_accounts(invocation: Invocation, as_json: bool) -> None:
    """List the accounts."""
    from pijobs.server.accounts import Accounts

    rows = [
        {
            "name": account.name,
            "role": account.role,
            "created": dt.datetime.fromtimestamp(account.created, dt.timezone.utc).isoformat(),
        }
        for account in Accounts.of(invocation.settings()).list()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['role']}  since {row['created']}")
    if not rows:
        click.echo("no accounts; 'pijobs admin add NAME' adds one")


@admin.command()
@click.argument("name")
@pass_invocation
def remove(invocation: Invocation, name: str) -> None:
    """Remove an account; its tokens end at once."""
    from pijobs.server.accounts import Accounts
    from pijobs.server.factors import Factors

    settings = invocation.settings()
    Accounts.of(settings).remove(name)
    # Another account of that name must not need them.
    Factors.of(settings).reset(name, also_required=True)
    audit(settings, "account.remove", about=name)
    click.echo(f"account {name} removed")


@admin.command()
@click.argument("name")
@stdin_option
@pass_invocation
def password(invocation: Invocation, name: str, password_stdin: bool) -> None:
    """Change a password; the account's tokens end at once."""
    from pijobs.server.accounts import Accounts

    settings = invocation.settings()
    Accounts.of(settings).set_password(name, _password(password_stdin))
    audit(settings, "account.password", about=name)
    click.echo(f"password of {name} changed")


@admin.command()
@click.argument("name")
@click.option("--require/--no-require", default=None, help="Require a second factor, or do not.")
@click.option("--reset", is_flag=True, help="Remove all its factors, for somebody who lost them.")
@pass_invocation
def second_factor(invocation: Invocation, name: str, require: bool | None, reset: bool) -> None:
    """Show the second factors of an account; require one, or reset them. Both end the account's sessions.

    If an account must have a factor and has none, it sets one up at its next sign-in with the password alone. So give
    that password to nobody else.
    """
    from pijobs.server.accounts import Accounts
    from pijobs.server.factors import Factors, extra
    from pijobs.server.sessions import Sessions

    settings = invocation.settings()
    if Accounts.of(settings).get(name) is None:
        raise click.UsageError(f"there is no account {name!r}; 'pijobs admin list' shows them")
    factors = Factors.of(settings)
    if require is not None:
        if require:
            extra("pyotp")
        factors.require(name, require)
        audit(settings, "factor.require" if require else "factor.allow-none", about=name)
    if reset:
        factors.reset(name)
        audit(settings, "factor.reset", about=name)
    if reset or require:
        Sessions.of(settings).end_all(name)
    known = ", ".join(f"{one.label} ({one.kind})" for one in factors.of_account(name)) or "none"
    click.echo(f"{name}: {known}; {'one is required' if factors.is_required(name) else 'none is required'}")


@admin.command()
@click.argument("name")
@pass_invocation
def sign_out(invocation: Invocation, name: str) -> None:
    """End all sessions and tokens of an account; of privacyIDEA's administrators, too."""
    from pijobs.server.sessions import Sessions

    settings = invocation.settings()
    number = Sessions.of(settings).end_all(name)
    audit(settings, "account.sign-out", about=name)
    click.echo(f"{name}: {number} sessions ended")


admin.add_command(token)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    entered: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return entered
