"""The hooks of this plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pijobs import InstanceEvent, Job, Page, Scheduled, Setting, Settings, hookimpl
from pijobs.errors import PluginError
from pijobs_privacyidea.settings import OWN_CLASS, SETTINGS, TASKS

if TYPE_CHECKING:
    import click
    import flask

    from pijobs.request.queue import Queue

#: The app and the queue of this process, if it is a worker of privacyIDEA.
_works_for: tuple[flask.Flask, Queue] | None = None


@hookimpl
def register_settings() -> Iterable[Setting]:
    return SETTINGS


@hookimpl
def register_jobs(settings: Settings) -> list[Job]:
    if "PI_JOB_QUEUE_MAIL_CA_FILE" not in settings:
        raise PluginError("needs the plugin 'mail'; name it in PI_JOB_QUEUE_PLUGINS, too")
    from pijobs_privacyidea import mail, periodic, scripts, second_channel, sms_job

    if settings.queue_class == OWN_CLASS:
        from pijobs_privacyidea.fingerprint import DefinitionsFingerprint

        DefinitionsFingerprint.install(settings)
    return [*mail.jobs(), *sms_job.jobs(), second_channel.job(), scripts.job(), *periodic.jobs(settings)]


@hookimpl
def register_pages() -> list[Page]:
    """Sentences in the overview. SMTP servers and gateways have their pages in privacyIDEA."""
    return [
        Page("", "", "mails", "smtpserver.", "the mail server"),
        Page("", "", "messages", "privacyidea.", "the gateway"),
    ]


@hookimpl
def list_schedules(queue: Queue) -> list[Scheduled]:
    """privacyIDEA's periodic tasks."""
    from pijobs_privacyidea.host import Host
    from pijobs_privacyidea.periodic import scheduled

    if queue.settings.queue_class != OWN_CLASS or not queue.settings[TASKS]:
        return []
    with Host.of(queue.settings).app.app_context():
        return list(scheduled(queue))


@hookimpl
def register_commands(cli: click.Group) -> None:
    from pijobs_privacyidea.command import privacyidea

    cli.add_command(privacyidea)


@hookimpl
def host_app(settings: Settings) -> flask.Flask | None:
    """privacyIDEA's app, if the queue is privacyIDEA's."""
    if settings.queue_class != OWN_CLASS:
        return None
    from pijobs_privacyidea.fingerprint import DefinitionsFingerprint
    from pijobs_privacyidea.host import Host

    host = DefinitionsFingerprint.install(settings).host = Host.of(settings)
    return host.app


@hookimpl
def worker_started(worker: Any) -> None:
    global _works_for
    from pijobs_privacyidea.host import Host

    if worker.queue.settings.queue_class == OWN_CLASS:
        host = Host.of(worker.queue.settings)
        host.after_fork()
        _works_for = host.app, worker.queue


@hookimpl
def job_finished(event: InstanceEvent) -> None:
    """In a worker only: privacyIDEA itself reports failures in the request."""
    from pijobs_privacyidea import audit

    if _works_for is not None and audit.is_failure(event):
        audit.tell(*_works_for, event)


@hookimpl(optionalhook=True)
def count_end(queue: Queue, event: InstanceEvent) -> Iterable[tuple[str, Mapping[str, object]]]:
    """For ``pijobs-statistics``, if that is installed."""
    from pijobs_privacyidea.usage import count_end

    return count_end(queue, event)
