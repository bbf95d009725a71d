"""A privacyIDEA whose workers and commands do not import it again and again (see :mod:`preloaded`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from preloaded import Programs

from pijobs_privacyidea.doctor import _series
from pijobs_privacyidea.instance import PATIENCE, Instance, end

#: Of privacyIDEA: two numbers.
RELEASE = _series()


class QuickInstance(Instance):
    """With the one that starts its programs. Servers, which are run by ``python -m``, are started as ever."""

    def __init__(self, here: Path, queue: Mapping[str, Any], programs: Programs) -> None:
        super().__init__(here, queue)
        self._programs = programs

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._programs.run(command, {**self.environment(), **environment}, self.here, PATIENCE)

    def start(self, *command: str) -> Any:
        if command[0] == sys.executable:
            return super().start(*command)
        process: Any = self._programs.start(command, self.environment(), self.here, self.log)
        self._ends.callback(end, process)
        return process


@contextmanager
def made(here: Path, programs: Programs, queue: str, **settings: Any) -> Iterator[Instance]:
    """privacyIDEA with users, of whom alice has an e-mail token; the server runs.

    :param queue: the URL of the queue's storage.
    :param settings: more of them.
    """
    settings = {
        "PI_JOB_QUEUE_CLASS": "pijobs_privacyidea.HueyQueue",
        "PI_JOB_QUEUE_URL": queue,
        "PI_JOB_QUEUE_LEASE": 3,
        # The hashes of PINs are slow by intent; no test is about them.
        "PI_HASH_ALGO_LIST": ["pbkdf2_sha512"],
        "PI_HASH_ALGO_PARAMS": {"pbkdf2_sha512__rounds": 1000},
        **settings,
    }
    with QuickInstance(here, settings, programs) as instance:
        instance.create()
        instance.serve()
        instance.add_people("alice", "bob", "carol")
        instance.ask("/system/setConfig", **{"email.identifier": "otp"})
        instance.set_smtp_server("otp", 9, queued=True)
        instance.add_email_token("alice", "1234")
        yield instance
