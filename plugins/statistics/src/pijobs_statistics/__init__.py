"""Usage statistics, written outside of the request::

    import pijobs_statistics as statistics

    statistics.record("login", result="ok", realm="staff")

All records of one request take one enqueue, at its end. Outside of an app's context, use
``with statistics.collect(queue): …``.
"""

from pijobs_statistics.record import collect, flush, record

__all__ = ["collect", "flush", "record"]
