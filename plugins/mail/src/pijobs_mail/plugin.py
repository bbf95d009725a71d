"""What this plugin gives to pijobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pijobs import Job, Setting, hookimpl
from pijobs_mail import job, servers

if TYPE_CHECKING:
    import click
    from flask import Blueprint

    from pijobs.hookspecs import Check
    from pijobs.queue import Queue


@hookimpl
def register_settings() -> list[Setting]:
    return list(servers.SETTINGS)


@hookimpl
def register_jobs() -> list[Job]:
    return job.register()


@hookimpl
def register_blueprints() -> list[Blueprint]:
    from pijobs_mail.routes import make_blueprint  # a worker needs no Flask

    return [make_blueprint()]


@hookimpl
def register_commands(cli: click.Group) -> None:
    from pijobs_mail.command import demo, drill, mail

    cli.add_command(demo)
    cli.add_command(drill)
    cli.add_command(mail)


@hookimpl
def register_checks(queue: Queue) -> list[Check]:
    from pijobs_mail.checks import definitions_check

    return [definitions_check(queue.settings)]
