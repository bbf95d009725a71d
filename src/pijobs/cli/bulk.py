"""``pijobs jobs retry``, ``cancel`` and ``purge``: on instances by their ids, or on all that match."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from pijobs.cli.invocation import Invocation, audit, pass_invocation, tell_if_away
from pijobs.cli.selection import FILTERS, Command, filter_options, selection
from pijobs.errors import JobError, StorageUnavailable
from pijobs.jobs import ENDED, WAITING, State
from pijobs.observe import instances
from pijobs.request.queue import Queue

Act = Callable[[str], None]
_DONE = {"retry": "queued again", "cancel": "cancelled", "delete": "deleted"}
#: How many ids one entry of the audit log names.
_NAMED = 200


def takes_instances(command: Command) -> Command:
    """Ids, or the filters of :func:`~pijobs.cli.selection.filter_options`; ``--yes`` and ``--reason``."""
    for option in (
        click.option(
            "--reason",
            default="",
            help="Why you do it, for the audit log; to choose by the reason of a failure: --because.",
        ),
        click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
        filter_options,
        click.argument("ids", metavar="[ID]...", nargs=-1),
    ):
        command = option(command)
    return command


all_option = click.option("--all", "everything", is_flag=True, help="All of them.")


@click.command()
@takes_instances
@all_option
@pass_invocation
def retry(invocation: Invocation, /, **given: Any) -> int:
    """Queue dead letters again: those with these ids, or all that match the options."""
    queue = invocation.queue()
    return _carry_out(queue, "retry", (State.DEAD,), lambda id: instances.retry(queue, id), given)


@click.command()
@takes_instances
@all_option
@pass_invocation
def cancel(invocation: Invocation, /, **given: Any) -> int:
    """Cancel waiting instances: those with these ids, or all that match. Running ones are not touched."""
    queue = invocation.queue()
    return _carry_out(queue, "cancel", tuple(WAITING), queue.cancel, given)


@click.command()
@takes_instances
@click.option(
    "--state", type=click.Choice([state.value for state in State if state in ENDED]),
    help="All of this state that match the other options.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="All that have ended and match the other options.")
@pass_invocation
def purge(invocation: Invocation, /, state: str | None, everything: bool, **given: Any) -> int:
    """Delete records of ended instances: those with these ids, or all (of a state) that match the options."""
    if bool(given["ids"]) + bool(state) + everything != 1:
        raise click.UsageError("expected either ids, --state or --all")
    queue = invocation.queue()
    states = (State(state),) if state else tuple(sorted(ENDED)) if everything else ()
    return _carry_out(queue, "delete", states, queue.remove, {**given, "everything": bool(states)})


def _carry_out(queue: Queue, name: str, states: Sequence[State], act: Act, given: dict[str, Any]) -> int:
    filtered = given.pop("everything") or any(given[one] is not None for one in FILTERS)
    if bool(given["ids"]) == filtered:
        found = "both" if filtered else "neither"
        raise click.UsageError(f"expected either ids or which ones (--all, --name, --because, …), found {found}")
    if not filtered:
        return _each(queue, name, given["ids"], given["reason"], act)
    places, away = queue.places.within_reach()
    ids = [record.id for _, record in selection(tuple(states), given).find(queue, places)]
    if ids and not given["yes"]:
        click.confirm(f"{len(ids)} instances to be {_DONE[name]}; go on?", abort=True)
    return _many(queue, name, ids, given["reason"], act) or tell_if_away(away)


def _each(queue: Queue, name: str, ids: Sequence[str], reason: str, act: Act) -> int:
    """Act on each id. Report failures and continue. The audit log names what was done."""
    code, done = 0, []
    for instance_id in ids:
        try:
            act(instance_id)
            done.append(instance_id)
            click.echo(f"{instance_id}: {_DONE[name]}")
        except JobError as error:
            code = code or 1
            click.echo(f"{instance_id}: {error}", err=True)
        except StorageUnavailable as error:
            code = 3
            click.echo(f"{instance_id}: the storage {error.what}: {error}", err=True)
    _note(queue, name, done, len(ids), reason)
    return code


def _many(queue: Queue, name: str, ids: Sequence[str], reason: str, act: Act) -> int:
    """Act on all ids, with a progress bar. Ctrl-C stops it; the audit log names what was done until then."""
    code, done, passed_over = 0, list[str](), 0
    try:
        with click.progressbar(ids, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            for instance_id in bar:
                try:
                    act(instance_id)
                    done.append(instance_id)
                except JobError:  # it has changed or was removed meanwhile
                    passed_over += 1
    except KeyboardInterrupt:
        code = 1
        click.echo("stopped", err=True)
    except StorageUnavailable as error:
        code = 3
        click.echo(f"the storage {error.what}: {error}", err=True)
    more = f"; {passed_over} had changed meanwhile" if passed_over else ""
    click.echo(f"{len(done)} of {len(ids)} {_DONE[name]}{more}")
    _note(queue, name, done, len(ids), reason)
    return code


def _note(queue: Queue, name: str, done: Sequence[str], number: int, reason: str) -> None:
    if done:
        audit(queue.settings, f"job.{name}", on=f"{len(done)} of {number}", fields=done[:_NAMED], reason=reason)
