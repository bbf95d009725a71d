"""The only module that takes threads, locks and events from :mod:`threading`; and whether a thread can run now. Use
them through the module, as in ``threads.Lock()``, because a simulation replaces them here. (ruff refuses other uses.)
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from pijobs.base.told import Told

if TYPE_CHECKING:
    from threading import BoundedSemaphore as BoundedSemaphore
    from threading import Condition as Condition
    from threading import Event as Event
    from threading import Lock as Lock
    from threading import RLock as RLock
    from threading import Thread as Thread
    from threading import current_thread as current_thread
    from threading import get_ident as get_ident
    from threading import local as local
    from threading import main_thread as main_thread


def __getattr__(name: str) -> Any:
    # Looked up each time, because gevent may replace it after this module was imported.
    return getattr(threading, name)


def running() -> list[Thread]:
    """All threads of this process."""
    return threading.enumerate()


def may_start() -> bool:
    """Whether a thread that starts now would run safely. Not while the interpreter ends: Python up to 3.11 waits for
    ever for a thread that it does not let start. Nor in uWSGI before it forks its workers: it holds the interpreter's
    lock during the fork, and if a thread waits for the lock at that moment, the child waits for that thread for ever.
    """
    return not sys.is_finalizing() and not _is_before_fork(sys.modules.get("uwsgi"))


def _is_before_fork(uwsgi: Any) -> bool:
    return uwsgi is not None and uwsgi.worker_id() == 0


def are_stopped_between_requests() -> bool:
    """Whether this is a uWSGI without ``enable-threads``: there a thread runs only while a request does."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and not getattr(uwsgi, "has_threads", True)


def let_greenlets_run() -> None:
    """Make psycopg wait as gevent does. psycopg chooses how to wait when it is imported; if gevent is loaded after
    that, this choice would stop all greenlets until the server answers. PyMySQL waits as its sockets do."""
    gevent, psycopg = sys.modules.get("gevent.monkey"), sys.modules.get("psycopg")
    if gevent is not None and psycopg is not None and gevent.is_module_patched("select"):
        psycopg.waiting.wait = psycopg.waiting.wait_select


#: The message for :func:`are_stopped_between_requests`, and its advice.
STOPPED = Told(
    "uWSGI runs no threads between requests: after an outage of the storage some requests more take the fallback"
)
ADVICE = Told("set 'enable-threads = true' in the configuration of uWSGI")
