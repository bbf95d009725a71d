"""pijobs for the real privacyIDEA: ``PI_JOB_QUEUE_CLASS = 'pijobs_privacyidea.HueyQueue'``.

:mod:`pijobs_privacyidea.queue` has that class, :mod:`pijobs_privacyidea.mail` the mail job, and
:mod:`pijobs_privacyidea.doctor` finds what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pijobs.base.requirements import unmet

if TYPE_CHECKING:
    from pijobs_privacyidea.queue import HueyQueue

__all__ = ["HueyQueue"]


def __getattr__(name: str) -> Any:
    if name != "HueyQueue":
        if name[0].isupper():  # a RuntimeError, since privacyIDEA only logs an ImportError
            raise RuntimeError(f"PI_JOB_QUEUE_CLASS: expected '{__name__}.HueyQueue', found '{__name__}.{name}'")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if missing := unmet("pijobs", "pijobs-mail", __name__.replace("_", "-")):
        # privacyIDEA logs an ImportError, and sends every mail in the request. So logins still work after an upgrade of
        # privacyIDEA, which installs other versions than pijobs needs.
        raise ImportError(f"{'; '.join(missing)}; mails are sent in the request until then")
    try:
        from pijobs_privacyidea.queue import HueyQueue
    except (ImportError, ValueError) as error:
        # privacyIDEA would only log these two, and send every mail in the request.
        raise RuntimeError(f"the job queue can't be imported: {error}") from error
    return HueyQueue
