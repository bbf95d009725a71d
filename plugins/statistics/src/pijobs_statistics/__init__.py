"""Usage statistics, counted off the request::

    import pijobs_statistics as statistics

    statistics.record("login", result="ok", realm="staff")

What one request records costs one enqueue, at its end. Outside of an app's context, say where it ends:
``with statistics.collect(queue): …``.
"""

from pijobs_statistics.record import collect, flush, record

__all__ = ["collect", "flush", "record"]
