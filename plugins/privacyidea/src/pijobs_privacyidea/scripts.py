"""Queues scripts of privacyIDEA's event handler.

privacyIDEA starts scripts in ``PI_SCRIPT_HANDLER_DIRECTORY``. A script of two lines there calls ``pijobs privacyidea
queue-script NAME``. The real script is in another folder, and a worker runs it with the same arguments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pijobs import FailJob, Job, JobContext, Limits, RetryPolicy, Settings
from pijobs_privacyidea import programs
from pijobs_privacyidea.settings import SCRIPTS

NAME = "privacyidea.script"
#: Seconds until an event is too old.
EXPIRES = 24 * 3600


def script_in(settings: Settings, name: str) -> Path:
    """The file of a script.

    :raises ValueError: if it does not exist. The message says what to do.
    """
    folder = settings[SCRIPTS]
    if not folder:
        raise ValueError(f"{SCRIPTS}: expected the folder of the scripts, found none")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"expected the name of a script in {folder}, found another text")
    path = Path(folder, name)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ValueError(f"expected a script at {path} that can be run, found none; chmod 755 it")
    return path


def run_script(ctx: JobContext, script: str, arguments: Sequence[str] = ()) -> None:
    """Run a script to its end.

    :param arguments: privacyIDEA's arguments.
    """
    try:
        path = script_in(ctx.settings, script)
    except ValueError as error:
        raise FailJob(str(error)) from None
    programs.run(ctx, [str(path), *arguments], folder=str(path.parent))


def job() -> Job:
    """The job."""
    return Job(
        NAME,
        run_script,
        retry=RetryPolicy(max_attempts=5, delay=5, backoff=3, max_delay=3600),
        expires=EXPIRES,
        timeout=programs.LONGEST,
        group=lambda script, **_: f"script:{script}",
        limits=Limits(concurrency=4),
        label=lambda script, **_: f"script {script}",
    )
