"""The hooks of this plugin."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from pijobs import Job, Page, Setting, Settings, hookimpl
from pijobs.definitions import definitions_check
from pijobs_sms import gateways, hookspecs, http, job, receipts
from pijobs_sms.provider import Provider
from pijobs_sms.smpp import provider as smpp

if TYPE_CHECKING:
    import click
    from flask import Blueprint

    from pijobs import Check
    from pijobs.observe.drill import Exercise
    from pijobs.request.queue import Queue


@hookimpl
def register_hookspecs() -> list[ModuleType]:
    return [hookspecs]


@hookimpl
def register_settings() -> list[Setting]:
    return list(gateways.SETTINGS)


@hookimpl
def register_jobs() -> list[Job]:
    return job.register()


@hookimpl
def register_sms_providers(settings: Settings) -> list[Provider]:
    """The providers of this plugin, and ``smtp`` if the mail plugin is loaded."""
    if not any(name.startswith("PI_JOB_QUEUE_MAIL_") for name in settings):
        return [http.PROVIDER, smpp.PROVIDER]
    from pijobs_sms import smtp

    return [http.PROVIDER, smpp.PROVIDER, smtp.PROVIDER]


@hookimpl
def register_blueprints() -> list[Blueprint]:
    # Imported here, since a worker needs no Flask.
    from pijobs_sms.pages import make_pages
    from pijobs_sms.routes import make_blueprint

    return [make_blueprint(), make_pages()]


@hookimpl
def register_drills() -> list[Exercise]:
    from pijobs_sms.drill import EXERCISE

    return [EXERCISE]


@hookimpl
def register_commands(cli: click.Group) -> None:
    from pijobs_sms.command import sms

    cli.add_command(sms)


@hookimpl
def register_pages() -> list[Page]:
    return [Page("SMS gateways", "sms.index", things="SMS", jobs="sms.", destination="the SMS gateway")]


@hookimpl
def worker_stopped() -> None:
    smpp.unbind_all()


@hookimpl
def told_afterwards(settings: Settings, instances: Mapping[str, str]) -> Mapping[str, str]:
    return receipts.of_instances(settings, instances)


@hookimpl
def register_checks(queue: Queue) -> list[Check]:
    settings = queue.settings
    check = definitions_check(
        "sms_gateways", "SMS gateway", settings, gateways.open_store, ca_file=gateways.CA_FILE,
        look=lambda gateway: gateways.Gateways.of(settings).providers[gateway["provider"]].in_clear(gateway, settings),
    )  # fmt: skip
    return [check]
