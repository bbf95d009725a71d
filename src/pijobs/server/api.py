"""Answers in privacyIDEA's format, and the parameters of requests.

====  ======  ================================================================
code  status  meaning (privacyIDEA's number; HTTP's, where privacyIDEA has none)
====  ======  ================================================================
4031  401     wrong credentials
4033  401     no token, or a token that is no longer valid
303   403     the account lacks the role, or the token the scope
905   400     a parameter is missing or wrong
601   404     not found
405   405     the route does not support this method
409   409     the state does not allow that
413   413     the request is too large
429   429     too many failed attempts to sign in
903   500     a stored secret can't be read
903   502     a server that we called (SMTP) failed
503   503     the storage or the database does not answer
-500  500     an internal error; the log has details
====  ======  ================================================================
"""

from __future__ import annotations

from typing import Any

import flask

from pijobs.base.foreign import cut
from pijobs.flask import current_queue
from pijobs.storage.contract import Storage


class ApiError(Exception):
    """An error answer.

    :param status: HTTP status. :param code: from the table above. :param message: for people, without secrets.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(message)


def answer(value: Any, status: int = 200) -> flask.Response:
    """``{"jsonrpc": "2.0", "id": 1, "result": {"status": true, "value": …}}``."""
    return _envelope({"status": True, "value": value}, status)


def error_answer(status: int, code: int, message: str) -> flask.Response:
    """``{"jsonrpc": "2.0", "id": 1, "result": {"status": false, "error": {"code": …, "message": …}}}``."""
    return _envelope({"status": False, "error": {"code": code, "message": message}}, status)


def _envelope(result: dict[str, Any], status: int) -> flask.Response:
    response = flask.jsonify({"jsonrpc": "2.0", "id": 1, "result": result})
    response.status_code = status
    return response


def parameters() -> dict[str, Any]:
    """The parameters of the request: from the query, and from a JSON object or a form, which overrides the query.

    :raises ApiError: if the body claims to be JSON and is not a JSON object.
    """
    request = flask.request
    values: dict[str, Any] = request.args.to_dict()
    if request.is_json and request.get_data():
        try:
            body = request.get_json(silent=True)
        except RecursionError:  # lists in lists in lists
            body = None
        if not isinstance(body, dict):
            raise ApiError(400, 905, "expected a JSON object as body")
        return {**values, **body}
    return {**values, **request.form.to_dict()}


def in_the_address(name: str) -> ApiError:
    """The error for a secret in the URL."""
    return ApiError(400, 905, f"{cut(name, 60)}: expected it in the body, found it in the address, which logs keep")


def required(values: dict[str, Any], name: str) -> str:
    """A required text parameter.

    :raises ApiError: if it is missing, empty or not a text.
    """
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise ApiError(400, 905, f"expected the parameter {name!r}")
    return value


def present_storage() -> Storage:
    """The storage of the queue.

    :raises ApiError: (409) if no queue is configured.
    """
    storage = current_queue().storage
    if storage is None:
        raise ApiError(409, 409, "no queue is configured; set PI_JOB_QUEUE_CLASS in pi.cfg")
    return storage
