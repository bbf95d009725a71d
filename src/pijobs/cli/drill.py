"""``pijobs drill``."""

from __future__ import annotations

import json
import signal
from types import FrameType
from typing import Any

import click

from pijobs.cli.invocation import Invocation
from pijobs.observe.drill import Drill, Exercise, Plan, Verdict


@click.command()
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--number", "--mails", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@click.option("--rate", type=click.FloatRange(0.1, 1000), default=10.0, show_default=True, help="How many per second.")
@click.option(
    "--within", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds that each may take."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address of this machine that workers can reach; the drill's server listens there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def drill(invocation: Invocation, /, name: str | None, as_json: bool, **plan: Any) -> int:
    """Test this installation: send mails or SMS to the drill's own server, through the queue and the live workers.

    NAME is mail or sms, or a drill of another plugin; the default is the first one that is loaded.

    Prints how long they took from enqueue to accepted. No user gets a message. The definition and all job instances of
    the drill are removed at the end. Exit codes: 0 ok, 1 not ok, 3 the storage does not answer.
    """
    queue = invocation.queue()
    given = [exercise for _, found in queue.plugins.call("register_drills") for exercise in found or ()]
    exercise = _chosen(given, name)
    running = Drill(queue, exercise, Plan(**plan))

    def interrupt(number: int, frame: FrameType | None) -> None:
        running.interrupted = True
        raise KeyboardInterrupt

    # Both signals end the drill like Ctrl-C, even if SIGINT was ignored (a shell's "&").
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with running:
            verdict = running.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if as_json:
        click.echo(json.dumps(verdict.as_json(), indent=2))
    else:
        _tell(verdict)
    return 0 if verdict.ok else 1


def _chosen(given: list[Exercise], name: str | None) -> Exercise:
    if not given:
        raise click.UsageError("no loaded plugin has a drill; install pijobs-mail or pijobs-sms")
    by_name = {exercise.name: exercise for exercise in reversed(given)}
    if name is not None and name not in by_name:
        raise click.UsageError(f"expected {' or '.join(reversed(by_name))}, found {name!r}")
    return given[0] if name is None else by_name[name]


def _tell(verdict: Verdict) -> None:
    click.echo(f"{verdict.accepted} of {verdict.number} {verdict.things} accepted; {verdict.workers} live workers")
    if verdict.seconds:
        times = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in verdict.seconds.items())
        click.echo(f"from enqueue to accepted: {times}")
    for fault in verdict.faults:
        click.echo(f"NOT OK: {fault}")
    if verdict.ok:
        click.echo("OK")
