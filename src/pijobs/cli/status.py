"""``pijobs status``, ``workers``, ``groups``, ``pause``, ``resume``, ``flush``, ``bypass`` and ``drain``."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any

import click

from pijobs.base import clock
from pijobs.base.files import looks
from pijobs.cli.invocation import Invocation, audit, pass_invocation, tell_if_away, who
from pijobs.cli.watch import watch
from pijobs.jobs import State
from pijobs.observe import facts, sentences, switches
from pijobs.observe import status as answers
from pijobs.observe.readiness import readiness
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage

log = logging.getLogger(__name__)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@json_option
@click.option(
    "--watch",
    "every",
    type=click.FloatRange(0.2),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Refresh every SECONDS (2), with the last events, until Ctrl-C; needs pip install 'pijobs[watch]'.",
)
@pass_invocation
@looks
def status(invocation: Invocation, as_json: bool, every: float | None) -> int:
    """Show depth and age per job and state, workers, the oldest waiting instance, failures, and failing checks.

    Exit code 3 if the storage does not answer: then only the spool of this machine is shown.
    """
    queue = invocation.queue()
    if every is not None:
        if as_json:
            raise click.UsageError("expected --json or --watch, found both")
        watch(queue, every)
        return 0
    overview = answers.overview(queue)
    code = 0 if overview["reachable"] else 3
    checks = [(name, check) for name, check in readiness(queue, overview) if check.warning or not check.ok]
    if as_json:
        click.echo(json.dumps({**overview, "checks": {name: asdict(check) for name, check in checks}}, indent=2))
        return code
    for line in sentences.sentences(overview):
        click.echo(line)
    for name, check in checks:
        red = check.alarm or not check.ok
        line = f"{'warning' if check.ok else 'CRITICAL'}: {name}: {check.message}; {check.advice}"
        click.echo(click.style(line, fg="red") if red else line)
    return code


@click.command()
@json_option
@pass_invocation
@looks
def workers(invocation: Invocation, as_json: bool) -> int:
    """List the live workers, with their last sign of life.

    Exit code 3 if the storage does not answer: then only workers that use the spool of this machine are listed.
    """
    places, away = invocation.places()
    rows = facts.workers(places[0])
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return tell_if_away(away)
    for row in rows:
        click.echo(
            f"{row['host']} pid {row['pid']}  {row['workers']} {row['worker_type']}  "
            f"seen {row['seen_age']:.1f} s ago  runs {len(row['running'])}  busy {row['busy']:.1f}  "
            f"version {row['version']}{' of ' + row['commit'] if row['commit'] else ''}"
            + (f"  quiet since {row['quiet']}" if row["quiet"] else "")
        )
    if not rows:
        click.echo("no live worker; start one with 'pijobs worker'")
    return tell_if_away(away)


@click.command()
@json_option
@pass_invocation
@looks
def groups(invocation: Invocation, as_json: bool) -> int:
    """List the groups, with their limits and circuit breakers.

    Exit code 3 if the storage does not answer: then only the groups in the spool of this machine are listed.
    """
    places, away = invocation.places()
    rows = [*facts.groups(places[0])]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return tell_if_away(away)
    for row in rows:
        limit = "no limit" if row["limit"] is None else f"limit {row['limit']}"
        blocked = f", blocked for {row['blocked_for']:.1f} s" if row["blocked_for"] else ""
        paused = f", paused {sentences.told_pause(row['pause'])}" if row["paused"] else ""
        failed = f"failed {row['failures']} times in a row, last: " if row["failures"] else ""
        why = f"\n  {failed}{row['reason']}" if row["reason"] else ""
        click.echo(f"{row['name']}: {row['running']} running, {row['waiting']} waiting, {limit}, "
                   f"breaker {row['breaker']}{blocked}{paused}{why}")  # fmt: skip
    if not rows:
        click.echo("no groups")
    return tell_if_away(away)


@click.command()
@click.argument("group", required=False)
@click.option("--reason", help="Why; shown to everybody who looks at the queue.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@pass_invocation
def pause(invocation: Invocation, group: str | None, reason: str | None, yes: bool) -> None:
    """Start no more jobs (of one GROUP), until 'resume'. Running jobs continue, and applications can still enqueue.

    Asks for confirmation, because jobs with a deadline expire meanwhile, and for a reason. 'pijobs status', /healthz,
    the pages and the log show who paused it, when and why.
    """
    queue, storage = _queue_and_storage(invocation)
    named = f"group {group}" if group else "the queue"
    if not yes:
        told = "instances with a deadline, such as one-time passwords, expire meanwhile"
        click.confirm(f"pause {named}? {told}", abort=True)
    reason = reason or ("no reason was given" if yes else click.prompt("reason"))
    reason = switches.pause(storage, group, by=who(), reason=str(reason))
    log.warning("%s is paused by %s: %s", named, who(), reason)
    audit(queue.settings, "group.pause" if group else "queue.pause", on=group or "", reason=reason)
    click.echo(f"{named} is paused")


@click.command()
@click.argument("group", required=False)
@pass_invocation
def resume(invocation: Invocation, group: str | None) -> None:
    """End a pause. If the destination of GROUP is down, one instance tries it now."""
    queue, storage = _queue_and_storage(invocation)
    down = switches.resume(storage, group)
    log.warning("%s is resumed by %s", f"group {group}" if group else "the queue", who())
    audit(queue.settings, "group.resume" if group else "queue.resume", on=group or "")
    told = "its destination is down: one instance tries it now, its outcome decides" if down else "goes on"
    click.echo(f"{'group ' + group if group else 'the queue'}{': ' if down else ' '}{told}")


@click.command()
@click.argument("group")
@pass_invocation
def flush(invocation: Invocation, group: str) -> int:
    """Try the destination of GROUP now, like 'postqueue -f': what waits for its next attempt is due at once.

    If the destination is down, one instance tries it, and the others follow if that succeeds. Instances without an
    attempt keep their time. A pause stays.
    """
    queue, storage = _queue_and_storage(invocation)
    if storage.group(group) is None:
        click.echo(f"there is no group {group!r} (any more); 'pijobs groups' lists them", err=True)
        return 1
    down, number = switches.flush(storage, group)
    log.warning("group %s is flushed by %s", group, who())
    audit(queue.settings, "group.flush", on=group)
    told = "its destination is down: one instance tries it now, its outcome decides; " if down else ""
    click.echo(f"group {group}: {told}{number} that waited for their next attempt are due now")
    return 0


@click.command()
@click.argument("group", required=False)
@click.option("--end", is_flag=True, help="Let new calls use the queue again.")
@click.option("--reason", help="Why; shown to everybody who looks at the queue.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@pass_invocation
def bypass(invocation: Invocation, group: str | None, end: bool, reason: str | None, yes: bool) -> None:
    """Run jobs (of one GROUP, such as smtp:main) in the request and not through the queue, until 'bypass --end'.

    For emergencies: no server is restarted, and each process follows with its next call. Requests then wait for their
    mails, and failures are not tried again. Workers still run the instances that already wait. Asks for confirmation
    and a reason. 'pijobs status', /healthz and the pages are red meanwhile.
    """
    queue, storage = _queue_and_storage(invocation)
    named = f"group {group}" if group else "the queue"
    if end:
        storage.end_bypass(group)
        log.warning("the bypass of %s is ended by %s", named, who())
        audit(queue.settings, "bypass.end", on=group or "")
        click.echo(f"{named}: new calls go by the queue again")
        return
    if not yes:
        click.confirm(f"bypass {named}? requests wait for what they send, and nothing is tried again", abort=True)
    reason = reason or ("no reason was given" if yes else click.prompt("reason"))
    reason = switches.bypass(storage, group, by=who(), reason=str(reason))
    log.warning("%s is bypassed by %s: %s", named, who(), reason)
    audit(queue.settings, "bypass.begin", on=group or "", reason=reason)
    click.echo(f"{named} is bypassed: new calls run in the request; 'pijobs bypass --end' ends that")


@click.command()
@click.option("--timeout", type=click.FloatRange(0), default=3600.0, help="Give up after this many seconds.")
@pass_invocation
@looks
def drain(invocation: Invocation, timeout: float) -> int:
    """Wait until nothing is queued or running. Exit code 1 if the timeout ends first."""
    places, end = invocation.queue().places, clock.monotonic() + timeout
    while True:
        left = sum(_left(depths.counts) for depths, _ in places.depths())
        if not left:
            click.echo("nothing is queued or running")
            return 0
        if clock.monotonic() >= end:
            click.echo(f"{left} instances are still queued or running", err=True)
            return 1
        clock.sleep(min(0.5, max(0.0, end - clock.monotonic())))


def _queue_and_storage(invocation: Invocation) -> tuple[Queue, Storage]:
    queue = invocation.queue()
    assert queue.storage is not None
    return queue, queue.storage


def _left(counts: Any) -> int:
    return sum(number for (_, state), number in counts.items() if state in (State.QUEUED, State.RUNNING))
