"""A plugin with a job, a setting and a command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from pijobs import FailJob, JobContext, RetryPolicy, Setting, hookimpl, job


@job("greeting.write", retry=RetryPolicy(max_attempts=3, delay=1), expires=3600)
def greet(ctx: JobContext, name: str) -> None:
    """The job: write a greeting to the file of the setting."""
    if not name.strip():
        raise FailJob("expected somebody to greet, found an empty name")
    ctx.check()
    with Path(ctx.settings["PI_JOB_QUEUE_GREETING_FILE"]).open("a") as file:
        file.write(f"Hello {name}!\n")


@hookimpl
def register_settings() -> Iterable[Setting]:
    return [
        Setting(
            name="PI_JOB_QUEUE_GREETING_FILE",
            default="greetings.txt",
            expected="the path of a file",
            accepts=lambda value: isinstance(value, str) and value != "",
            help="Where the greetings go.",
        )
    ]


@hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.command("greet")
    @click.argument("name")
    @click.pass_obj
    def command(invocation: Any, name: str) -> None:
        """Have somebody greeted by the worker."""
        handle = greet.options(queue=invocation.installation().queue).enqueue(name)
        click.echo(f"{handle.id} is {handle.state}")
