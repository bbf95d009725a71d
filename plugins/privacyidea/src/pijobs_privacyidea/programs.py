"""Runs programs in a job."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence

from pijobs import FailJob, JobContext, RetryJob
from pijobs.base.redact import redact
from pijobs.settings import CONFIG_VARIABLE

#: Most seconds of a program, and the timeout of its job.
MOST, LONGEST = 3540, 3600
#: The most characters of its output that are kept.
_MOST_OUTPUT = 300


def run(ctx: JobContext, command: Sequence[str], *, folder: str | None = None) -> None:
    """Run a program in a separate process, with the worker's environment and ``pi.cfg``.

    :param folder: working directory.
    :raises RetryJob: if it fails. :raises FailJob: if it does not end in time, or can't be started.
    """
    name = os.path.basename(command[0])
    environment = dict(os.environ)
    if ctx.settings.file is not None:
        environment[CONFIG_VARIABLE] = str(ctx.settings.file)
    ctx.check()
    try:
        done = subprocess.run(
            [*command], env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=max(0.1, min(MOST, ctx.time_left())),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FailJob(f"{name} did not end in time, and was killed") from None
    except OSError as error:
        raise FailJob(f"{name} can't be started ({error.strerror})") from None
    ctx.note(said=redact(_last_words(done.stdout)))
    if done.returncode:
        raise RetryJob(f"{name} ended with {done.returncode}: {redact(_last_words(done.stderr or done.stdout))}")


def _last_words(output: str) -> str:
    return re.sub(r"\s+", " ", output[-_MOST_OUTPUT:]).strip()
