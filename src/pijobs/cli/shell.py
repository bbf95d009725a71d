"""``pijobs shell``."""

from __future__ import annotations

from typing import Any

import click

from pijobs.cli.invocation import Invocation, pass_invocation
from pijobs.decorator import JobFunction
from pijobs.request.queue import Queue


@click.command()
@click.pass_context
@pass_invocation
def shell(invocation: Invocation, context: click.Context) -> None:
    """Open a Python shell in the context of the app, with app, queue and the functions of all jobs."""
    from flask.cli import shell_command

    app, installation = invocation.host()
    app.shell_context_processor(lambda: names(installation.queue))
    with app.app_context():
        context.invoke(shell_command)


def names(queue: Queue) -> dict[str, Any]:
    """Names in the shell, in addition to those of ``flask shell``. Of two functions with one name, the first."""
    functions: dict[str, Any] = {}
    for job in queue.registry.values():
        if isinstance(job, JobFunction):
            functions.setdefault(job.__name__, job)
    return {**functions, "queue": queue}
