"""Who may use a route: each view declares the role that it requires."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import flask

from pijobs.flask import current_installation
from pijobs.server.accounts import ROLES, Role
from pijobs.server.api import ApiError
from pijobs.server.audited import audit
from pijobs.server.auth import RECENT, signed_in
from pijobs.server.sessions import Sessions

#: Attribute of a view that tells the role it requires.
RIGHT = "pijobs_right"

View = TypeVar("View", bound=Callable[..., Any])


def requires(role: Role, *, recent: bool = False) -> Callable[[View], View]:
    """Only accounts with this role, or one that may do more, are let in.

    The account stands in ``flask.g.account`` then.

    :param recent: the token must not be older than :data:`~pijobs.server.auth.RECENT` seconds.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            account, session = signed_in()
            flask.g.account = account
            if ROLES.index(account.role) < ROLES.index(role):
                audit("access", "refused", on=f"{flask.request.method} {flask.request.path}")
                raise ApiError(403, 303, f"this needs the role {role!r}; {account.name!r} has {account.role!r}")
            if recent and not Sessions.of(current_installation().settings).is_fresh(session, RECENT):
                minutes = f"{RECENT // 60} minutes"
                raise ApiError(401, 4033, f"this needs a token that is not older than {minutes}; sign in again")
            return view(*args, **kwargs)

        setattr(guarded, RIGHT, role)
        return cast(View, guarded)

    return decorate
