"""The job ``mail.digest`` reports failures to people, in one message: by mail, by webhook, or both.

It is a periodic job, so the queue makes sure that all workers together create one digest at a time. The record of each
digest says where it ended. A digest that could not be delivered ends dead, and the next one repeats its failures. It
creates no other instance and does not report itself, so no digest causes another one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pijobs import CheckResult, FailJob, Job, JobContext, RetryPolicy, State, Told, crontab
from pijobs.base.masks import mask_address
from pijobs.base.redact import describe
from pijobs.errors import DefinitionNotFound, DestinationDown, PijobsError
from pijobs.flask import current_queue
from pijobs.observe.instances import explained
from pijobs.observe.lists import listing
from pijobs.plugins.hookspecs import Check
from pijobs.request.queue import Queue
from pijobs.settings import Setting, Settings
from pijobs_mail.alerts.digest import Digest, collect, parse
from pijobs_mail.alerts.webhook import WebhookFailed, is_webhook, post
from pijobs_mail.compose.addresses import mailbox
from pijobs_mail.compose.message import Letter
from pijobs_mail.errors import MessageError
from pijobs_mail.send import as_arguments
from pijobs_mail.servers.definitions import PREFIX, open_store

JOB = "mail.digest"
_DIVISORS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)
#: Higher than jobs that nobody waits for, lower than mails with one-time passwords.
_PRIORITY = 5
#: Seconds after which an instance that ended can certainly be read.
_SETTLED = 2.0
#: Seconds to keep the record of a digest, which says where the next one begins.
_KEEP = 3 * 24 * 3600


def _is_address(value: object) -> bool:
    return isinstance(value, str) and bool(mailbox(value, "to"))


SERVER: Setting[str | None] = Setting(
    name=PREFIX + "ALERT_SERVER",
    default=None,
    expected="the identifier of an SMTP server definition, or None",
    accepts=lambda value: isinstance(value, str) and value != "",
    help="SMTP server for digests of failed jobs. Best use one that sends no other mail.",
    example="alerts",
)
TO: Setting[Sequence[str]] = Setting(
    name=PREFIX + "ALERT_TO",
    default=(),
    expected="a list of mail addresses",
    accepts=lambda value: isinstance(value, (list, tuple)) and all(_is_address(one) for one in value),
    help="Who gets the digests.",
    example=["oncall@example.com"],
)
WEBHOOK: Setting[str | None] = Setting(
    name=PREFIX + "ALERT_WEBHOOK",
    default=None,
    expected="a URL http://… or https://… without a login, or None",
    accepts=is_webhook,
    help="URL to which digests of failed jobs are posted as JSON, in addition to the mail or instead of it.",
    secret=True,
    example="https://chat.example.com/hooks/T012ABC",
)
EVERY = Setting(
    name=PREFIX + "ALERT_EVERY",
    default=5,
    expected=f"a number of minutes, one of {', '.join(map(str, _DIVISORS))}",
    accepts=lambda value: type(value) is int and value in _DIVISORS,
    help="Minutes between two digests of failed jobs. Without a failure there is no digest.",
)
SETTINGS = (SERVER, TO, WEBHOOK, EVERY)


def register(settings: Settings) -> Job:
    """Without a recipient, the job is not scheduled."""
    every = settings[EVERY]
    minutes = "0" if every == 60 else f"*/{every}"
    return Job(
        JOB,
        digest,
        retry=RetryPolicy(max_attempts=1),
        expires=every * 60,
        priority=_PRIORITY,
        timeout=300,
        keep=_KEEP,
        schedule=crontab(minute=minutes) if _is_wanted(settings) else None,
    )


def digest(ctx: JobContext) -> None:
    """Report failures since the last digest. Done if one recipient got it, or there are no failures."""
    queue = current_queue()
    ways = list(_ways(ctx.settings))
    if not ways or queue.storage is None:
        return
    since, until = _span(queue, ctx)
    found = collect(queue, since, until, leave_out=JOB)
    if not found.count:
        return
    faults, took = [], 0
    for name, tell in ways:
        try:
            tell(queue, found)
            took += 1
        except (PijobsError, WebhookFailed) as error:
            faults.append(f"{name}: {describe(error)}")
            ctx.log.warning("the digest of %d failures was not taken by %s: %s", found.count, name, describe(error))
            if isinstance(error, DestinationDown):  # every other recipient would wait as long
                break
    ctx.note(failures=found.count, told=f"{took} of {len(ways)}")
    if not took:
        raise FailJob(f"nobody was told of {found.count} failures: {'; '.join(faults)}")


def _span(queue: Queue, ctx: JobContext) -> tuple[dt.datetime, dt.datetime]:
    """From the end of the last digest to the start of this attempt, both a little earlier."""
    settled = dt.timedelta(seconds=_SETTLED)
    until = parse(explained(queue, ctx.id)["started"]) - settled
    rows, _ = listing(queue, state=State.DONE, name=JOB, limit=1)
    if rows and rows[0]["started"]:
        return parse(rows[0]["started"]) - settled, until
    return until - dt.timedelta(minutes=ctx.settings[EVERY]), until


def _is_wanted(settings: Settings) -> bool:
    return bool(settings[WEBHOOK] or (settings[SERVER] and settings[TO]))


Way = tuple[str, Callable[[Queue, Digest], None]]


def _ways(settings: Settings) -> Iterator[Way]:
    """First the webhook, which takes ten seconds at most. Then a mail per address: a refused one affects no other."""
    if url := settings[WEBHOOK]:
        yield "the webhook", lambda _, found: post(url, found.as_json())
    if server := settings[SERVER]:
        for to in settings[TO]:
            yield mask_address(mailbox(to, "to").spec), partial(_mail, server=server, to=to)


def _mail(queue: Queue, found: Digest, *, server: str, to: str) -> None:
    """Send it in this attempt, whatever the server's toggle says: a separate instance could fail unnoticed.

    :raises PijobsError: if it was not sent.
    """
    definition = open_store(queue.settings).get(server)
    if not definition["sender"]:
        raise MessageError(f"sender: expected one in SMTP server {server!r}, found none")
    text = "\n".join(found.lines()) + "\n"
    if any(kind.group == f"smtp:{server}" for kind in found.kinds):
        text += f"\nSome of it failed at the SMTP server {server!r}, which this mail was sent by, too.\n"
    letter = Letter(to=(to,), subject=found.title, text=text)
    queue.run("mail.send", (), {"server": server, **as_arguments(letter, definition["sender"])})


def alerts_check(settings: Settings) -> Check:
    """Whether a digest would reach somebody, even if an SMTP server fails."""
    return Check("alerts", lambda: _check(settings))


def _check(settings: Settings) -> CheckResult:
    server = settings[SERVER]
    if bool(server) != bool(settings[TO]):
        there, absent = (SERVER, TO) if server else (TO, SERVER)
        message = Told("{there} is set without {absent}: no digest is mailed", there=there, absent=absent)
        return _warning(message, Told("set {absent}, too", absent=absent))
    if not _is_wanted(settings):
        message = Told(
            "nobody is told of failures: neither {server} nor {webhook} is set", server=SERVER, webhook=WEBHOOK
        )
        return CheckResult(True, message)
    if not server:
        return CheckResult(True, Told("digests of failures go to a webhook"))
    store = open_store(settings)
    try:
        if not store.get(server)["sender"]:
            message = Told("SMTP server {name!r} of {setting} has no sender", name=server, setting=SERVER)
            return _warning(message, Told("save it again, with its sender"))
    except DefinitionNotFound:
        message = Told("the SMTP server {name!r} of {setting} is not defined", name=server, setting=SERVER)
        return _warning(message, Told("define it, or name another one"))
    if len(store.list()) == 1 and not settings[WEBHOOK]:
        return _warning(
            Told(
                "digests go by the SMTP server {name!r}, which is the only one: when it fails, nobody is told",
                name=server,
            ),
            Told("define another SMTP server for {setting}, or set {webhook}", setting=SERVER, webhook=WEBHOOK),
        )
    return CheckResult(True, Told("digests of failures go by the SMTP server {name!r}", name=server))


def _warning(message: str, advice: str) -> CheckResult:
    return CheckResult(True, message, advice, warning=True)
