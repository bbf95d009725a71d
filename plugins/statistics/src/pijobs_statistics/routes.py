"""``GET /statistics``."""

from __future__ import annotations

from flask import Blueprint, Response

from pijobs.flask import current_queue
from pijobs.server.api import ApiError, answer, parameters
from pijobs.server.described import Parameter, takes
from pijobs.server.rights import requires
from pijobs_statistics.output import as_csv, as_json, query


def make_blueprint() -> Blueprint:
    blueprint = Blueprint("statistics", __name__)
    blueprint.get("/statistics")(read)
    return blueprint


@requires("viewer")
@takes(
    Parameter("name", "name of the records"),
    Parameter("per", "period", {"enum": ["minute", "hour", "day"]}),
    Parameter("since", "ISO 8601, or seconds since the epoch"),
    Parameter("until", "in the same format"),
    Parameter("format", "", {"enum": ["json", "csv"]}),
    media=["application/json", "text/csv"],
)
def read() -> Response:
    """Statistics by period, name and tags: ``name``, ``per`` (minute, hour, day), ``since``, ``until`` (ISO 8601 or
    seconds since the epoch; default: the last day), ``format`` (json, csv)."""
    from pijobs_statistics.store import Store

    values = {name: str(value) for name, value in parameters().items()}
    form = values.pop("format", "json")
    try:
        if form not in ("json", "csv"):
            raise ValueError(f"format: expected json or csv, found {form[:20]!r}")
        chosen = query(**values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ApiError(400, 905, str(error)) from None
    rows = Store.of(current_queue().settings).read(**chosen)
    if form == "csv":
        return Response(as_csv(rows), mimetype="text/csv")
    return answer({"per": chosen["per"], "rows": as_json(rows)})
