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
from pijobs.server.lockout import Tries, network_of
from pijobs.server.sessions import Sessions

#: Attribute of a view that tells the role it requires.
RIGHT = "pijobs_right"

#: What a client's tries at a shared secret are counted by, beside what it is for.
_GUESSES = "shared secret"

View = TypeVar("View", bound=Callable[..., Any])


def count_guess(what: str, *, right: bool) -> None:
    """For a route that a shared secret opens: counts those that are wrong, by the client's address.

    :param what: whose secret it is, such as ``"SMS gateway main"``.
    :raises ApiError: (429) after too many wrong ones, though this one is right: else a guesser would learn it.
    """
    tries, address = current_installation().settings.resource(Tries, Tries), flask.request.remote_addr or ""
    device = f"{_GUESSES} {network_of(address)}"
    tries.begin(what, address, device)
    if right:
        tries.succeed(what, address, device)


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
