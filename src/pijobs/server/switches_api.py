"""``/groups/…`` and ``/workers/quiet``: switches for operators."""

from __future__ import annotations

import flask

from pijobs.server import switched
from pijobs.server.api import ApiError, answer, parameters, present_storage, required
from pijobs.server.audited import given_reason
from pijobs.server.described import Parameter, takes
from pijobs.server.rights import requires
from pijobs.storage.texts import storable_name

GROUP = Parameter("group", "such as smtp:main; default: the whole queue")
WHY = Parameter("reason", "shown with the state of the queue", required=True)
HOST = Parameter("host", "as GET /workers names it", required=True)
PID = Parameter("pid", "of one worker process; default: all of the host", {"type": "integer", "minimum": 1})

blueprint = flask.Blueprint("pijobs_switches", __name__)


@blueprint.post("/groups/pause")
@requires("operator")
@takes(GROUP, WHY)
def pause() -> flask.Response:
    """Start no more jobs of one ``group``, or of all. Running jobs continue. Jobs whose deadline passes expire."""
    switched.pause(present_storage(), _group(), _reason())
    return answer(True)


@blueprint.post("/groups/resume")
@requires("operator")
@takes(GROUP)
def resume() -> flask.Response:
    """End a pause. ``down`` tells whether the destination is down; if so, one instance tries it now."""
    return answer({"down": switched.resume(present_storage(), _group())})


@blueprint.post("/groups/flush")
@requires("operator")
@takes(Parameter("group", "such as smtp:main", required=True))
def flush() -> flask.Response:
    """Try the destination of a ``group`` now. ``due``: number of waiting instances that became due now; ``down``: as
    in :func:`resume`."""
    storage = present_storage()
    required(parameters(), "group")
    down, due = switched.flush(storage, str(_group()))
    return answer({"down": down, "due": due})


@blueprint.post("/groups/bypass")
@requires("operator")
@takes(GROUP, WHY)
def bypass() -> flask.Response:
    """Run new calls of one ``group``, or of all, in the request until the bypass ends. Meanwhile ``/healthz`` fails."""
    switched.bypass(present_storage(), _group(), _reason())
    return answer(True)


@blueprint.delete("/groups/bypass")
@requires("operator")
@takes(GROUP)
def end_bypass() -> flask.Response:
    """Enqueue new calls of one ``group``, or of all, again."""
    switched.end_bypass(present_storage(), _given_group())
    return answer(True)


@blueprint.post("/workers/quiet")
@requires("operator")
@takes(HOST, PID)
def take_no_more() -> flask.Response:
    """Tell the workers of a host, before a reboot, to take no more jobs and finish their present ones. Answers the
    number of processes. ``GET /workers`` shows which have received it (``quiet``), and which have no job left
    (``resting``)."""
    return _set_quiet(end=False)


@blueprint.delete("/workers/quiet")
@requires("operator")
@takes(HOST, PID)
def take_again() -> flask.Response:
    """Tell the workers of a host to take jobs again. Answers the number of processes."""
    return _set_quiet(end=True)


def _set_quiet(*, end: bool) -> flask.Response:
    storage, values = present_storage(), parameters()
    host, pid = required(values, "host"), str(values.get("pid") or "")
    if pid and not (pid.isascii() and pid.isdigit() and len(pid) < 11):
        raise ApiError(400, 905, f"pid: expected a number, found {pid[:20]!r}")
    number = switched.take_no_more(storage, host, int(pid) if pid else None, end=end)
    if not number:
        raise ApiError(404, 601, "there is no live worker of that host and pid; GET /workers lists them")
    return answer(number)


def _given_group() -> str | None:
    """As the storage writes it: JSON can carry what no storage takes."""
    return storable_name(str(parameters().get("group") or "")) or None


def _group() -> str | None:
    group = _given_group()
    if group is not None and present_storage().group(group) is None:
        raise ApiError(404, 601, "there is no group with this name (any more); GET /groups lists them")
    return group


def _reason() -> str:
    values = parameters()
    required(values, "reason")
    if not (reason := given_reason(values)):
        raise ApiError(400, 905, "reason: expected words, found blanks")
    return reason
