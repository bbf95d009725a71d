"""A plugin as a stranger writes it, from the description of jobs and hooks alone.

The job adds a greeting to a file, the setting names the salutation, the command shows the file.
"""

from __future__ import annotations

from pathlib import Path

import click

from pijobs import FailJob, Job, JobContext, RetryPolicy, Setting, Settings, hookimpl


def greet(ctx: JobContext, file: str, name: str) -> None:
    """Add one line to ``file``: the salutation of the settings, and the name."""
    path = Path(file)
    if not path.parent.is_dir():
        raise FailJob("expected a file in a folder that exists")
    ctx.check()
    with path.open("a", encoding="utf-8") as lines:
        lines.write(f"{ctx.settings['PI_JOB_QUEUE_SAMPLE_SALUTATION']}, {name}!\n")
    ctx.note(attempt=ctx.attempt)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


@hookimpl
def register_settings() -> list[Setting]:
    return [
        Setting(
            name="PI_JOB_QUEUE_SAMPLE_SALUTATION",
            default="Hello",
            expected="a text",
            accepts=_is_text,
            help="How the sample job begins its line.",
        )
    ]


@hookimpl
def register_jobs(settings: Settings) -> list[Job]:
    return [Job("sample.greet", greet, retry=RetryPolicy(max_attempts=3, delay=0.1), expires=60, priority=5)]


@hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.command("greetings")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    def greetings(file: Path) -> None:
        """Show the greetings that the sample job wrote to FILE."""
        click.echo(file.read_text(encoding="utf-8"), nl=False)
