"""A plugin with a job, a setting and a command."""

from pathlib import Path
from typing import Any

import click

from pijobs import FailJob, JobContext, Setting, hookimpl, job

FILE = Setting(
    name="PI_JOB_QUEUE_GREETING_FILE", default="greetings.txt", help="Where the greetings go.",
    expected="the path of a file", accepts=lambda value: isinstance(value, str) and value != "",
)  # fmt: skip


@job("greeting.write", expires=3600)
def greet(ctx: JobContext, name: str) -> None:
    """The job: write a greeting to the file of the setting."""
    if not name.strip():
        raise FailJob("expected somebody to greet, found an empty name")
    ctx.check()
    with Path(ctx.settings[FILE]).open("a") as file:
        file.write(f"Hello {name}!\n")


@hookimpl
def register_settings() -> list[Setting]:
    return [FILE]


@hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.command("greet")
    @click.argument("name")
    @click.pass_obj
    def command(invocation: Any, name: str) -> None:
        """Have somebody greeted by the worker."""
        handle = greet.options(queue=invocation.installation().queue).enqueue(name)
        click.echo(f"{handle.id} is {handle.state}")
