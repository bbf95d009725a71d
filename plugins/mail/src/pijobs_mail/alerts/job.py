"""The job ``mail.digest``: tells people what failed, bundled; by mail, by webhook, or both.

It is a periodic job, so the queue itself sees to it that one digest at a time is made over all workers, and where the
last one ended stands in that one's record. A digest that nobody took ends dead, and the next one tells its failures,
too. It makes no other instance and tells nothing of itself, so that no digest causes another one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pijobs import CheckResult, FailJob, Job, JobContext, RetryPolicy, State, crontab
from pijobs.base.masks import mask_address
from pijobs.base.redact import describe
from pijobs.errors import DefinitionNotFound, DestinationDown, PijobsError
from pijobs.flask import current_queue
from pijobs.observe.instances import explained, listing
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
#: Above what nobody waits for, below mails with one-time passwords.
_PRIORITY = 5
#: Seconds until an end that got its time just now can surely be read.
_SETTLED = 2.0
#: Seconds to keep the record of a digest, which tells the next one where to begin.
_KEEP = 3 * 24 * 3600


def _is_address(value: object) -> bool:
    return isinstance(value, str) and bool(mailbox(value, "to"))


SERVER: Setting[str | None] = Setting(
    name=PREFIX + "ALERT_SERVER",
    default=None,
    expected="the identifier of an SMTP server definition, or None",
    accepts=lambda value: isinstance(value, str) and value != "",
    help="SMTP server that digests of failed jobs are mailed by; best one that no other mail goes by.",
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
    help="Where digests of failed jobs are posted as JSON, besides the mail or instead of it.",
    secret=True,
    example="https://chat.example.com/hooks/T012ABC",
)
EVERY = Setting(
    name=PREFIX + "ALERT_EVERY",
    default=5,
    expected=f"a number of minutes, one of {', '.join(map(str, _DIVISORS))}",
    accepts=lambda value: type(value) is int and value in _DIVISORS,
    help="Minutes that failed jobs are collected for one digest. Without a failure there is none.",
)
SETTINGS = (SERVER, TO, WEBHOOK, EVERY)


def register(settings: Settings) -> Job:
    """Without anybody to tell, it is not scheduled."""
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
    """Tell what failed since the digest before. Done when somebody took it, or when there is nothing to tell."""
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
            if isinstance(error, DestinationDown):  # it would let each other recipient wait as long
                break
    ctx.note(failures=found.count, told=f"{took} of {len(ways)}")
    if not took:
        raise FailJob(f"nobody was told of {found.count} failures: {'; '.join(faults)}")


def _span(queue: Queue, ctx: JobContext) -> tuple[dt.datetime, dt.datetime]:
    """From where the last digest ended to the start of this attempt, each a little earlier."""
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
    """The webhook first: it takes ten seconds at most. A mail for each, so that one refused address is alone."""
    if url := settings[WEBHOOK]:
        yield "the webhook", lambda _, found: post(url, found.as_json())
    if server := settings[SERVER]:
        for to in settings[TO]:
            yield mask_address(mailbox(to, "to").spec), partial(_mail, server=server, to=to)


def _mail(queue: Queue, found: Digest, *, server: str, to: str) -> None:
    """In this attempt, whatever the toggle of the SMTP server: an instance of its own could fail unseen.

    :raises PijobsError: when it was not taken.
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
    """Whether a digest would reach somebody, also when an SMTP server fails."""
    return Check("alerts", lambda: _check(settings))


def _check(settings: Settings) -> CheckResult:
    server = settings[SERVER]
    if bool(server) != bool(settings[TO]):
        there, absent = (SERVER, TO) if server else (TO, SERVER)
        return _warning(f"{there} is set without {absent}: no digest is mailed", f"set {absent}, too")
    if not _is_wanted(settings):
        return CheckResult(True, f"nobody is told of failures: neither {SERVER} nor {WEBHOOK} is set")
    if not server:
        return CheckResult(True, "digests of failures go to a webhook")
    store = open_store(settings)
    try:
        if not store.get(server)["sender"]:
            return _warning(f"SMTP server {server!r} of {SERVER} has no sender", "save it again, with its sender")
    except DefinitionNotFound:
        return _warning(f"the SMTP server {server!r} of {SERVER} is not defined", "define it, or name another one")
    if len(store.list()) == 1 and not settings[WEBHOOK]:
        return _warning(
            f"digests go by the SMTP server {server!r}, which is the only one: when it fails, nobody is told",
            f"define another SMTP server for {SERVER}, or set {WEBHOOK}",
        )
    return CheckResult(True, f"digests of failures go by the SMTP server {server!r}")


def _warning(message: str, advice: str) -> CheckResult:
    return CheckResult(True, message, advice, warning=True)
