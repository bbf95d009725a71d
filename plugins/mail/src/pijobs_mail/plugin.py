"""The hooks of this plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pijobs import Job, Page, Setting, Settings, hookimpl
from pijobs_mail import job
from pijobs_mail.alerts import job as alerts
from pijobs_mail.engine import pool
from pijobs_mail.servers import definitions as servers

if TYPE_CHECKING:
    import click
    from flask import Blueprint

    from pijobs.observe.drill import Exercise
    from pijobs.plugins.hookspecs import Check
    from pijobs.request.queue import Queue


@hookimpl
def register_settings() -> list[Setting]:
    return [*servers.SETTINGS, *alerts.SETTINGS]


@hookimpl
def register_jobs(settings: Settings) -> list[Job]:
    return [*job.register(), alerts.register(settings)]


@hookimpl
def register_blueprints() -> list[Blueprint]:
    # A worker needs no Flask.
    from pijobs_mail.pages import make_pages
    from pijobs_mail.routes import make_blueprint

    return [make_blueprint(), make_pages()]


@hookimpl
def register_pages() -> list[Page]:
    return [Page("SMTP servers", "smtp.index", things="mails", jobs="mail.", destination="the mail server")]


@hookimpl
def register_drills() -> list[Exercise]:
    from pijobs_mail.drill import EXERCISE

    return [EXERCISE]


@hookimpl
def stand_in(tell: Callable[[str], object]) -> AbstractContextManager[Mapping[str, Any]]:
    from pijobs_mail.sink.stand_in import StandIn

    return StandIn(tell)


@hookimpl
def register_commands(cli: click.Group) -> None:
    from pijobs_mail.command import demo, mail

    cli.add_command(demo)
    cli.add_command(mail)


@hookimpl
def register_checks(queue: Queue) -> list[Check]:
    settings = queue.settings
    return [servers.servers_check(settings), *servers.sink_checks(settings), alerts.alerts_check(settings)]


@hookimpl
def worker_stopped() -> None:
    pool.process_pool().close()
