"""Access to routes: each view declares the role that it requires."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import flask

from pijobs.flask import current_installation
from pijobs.server.accounts import ROLES, Role
from pijobs.server.api import ApiError
from pijobs.server.audited import audit
from pijobs.server.auth import RECENT, present_machine, sessions, signed_in
from pijobs.server.lockout import Tries, network_of

#: Attribute of a view with the role that it requires.
RIGHT = "pijobs_right"
#: Attribute of a view with the scope that lets a machine's token in.
SCOPE = "pijobs_scope"

#: Prefix of the key that counts a client's guesses.
_GUESSES = "shared secret"

View = TypeVar("View", bound=Callable[..., Any])


def count_guess(what: str, *, right: bool) -> None:
    """Count a wrong shared secret by the client's address, for a route that such a secret opens.

    :param what: owner of the secret, such as ``"SMS gateway main"``.
    :raises ApiError: (429) after too many wrong ones, also for the right one: else a guesser would learn it.
    """
    tries, address = current_installation().settings.resource(Tries, Tries), flask.request.remote_addr or ""
    device = f"{_GUESSES} {network_of(address)}"
    tries.begin(what, address, device)
    if right:
        tries.succeed(what, address, device)


def requires(role: Role, *, recent: bool = False, scope: str = "") -> Callable[[View], View]:
    """Decorate a view, to let in accounts with this role or a higher one.

    The view finds the account in ``flask.g.account``.

    :param recent: refuse tokens older than :data:`~pijobs.server.auth.RECENT` seconds.
    :param scope: also let in machines' tokens with this scope; empty: none. ``flask.g.account`` is then the machine.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if (machine := present_machine()) is not None:
                flask.g.account = machine
                if not scope or not machine.may(scope):
                    raise out_of_scope(scope)
                return view(*args, **kwargs)
            account, session = signed_in()
            flask.g.account = account
            if ROLES.index(account.role) < ROLES.index(role):
                audit("access", "refused", on=f"{flask.request.method} {flask.request.path}")
                raise ApiError(403, 303, f"this needs the role {role!r}; {account.name!r} has {account.role!r}")
            if recent and not sessions().is_fresh(session, RECENT):
                minutes = f"{RECENT // 60} minutes"
                raise ApiError(401, 4033, f"this needs a token that is not older than {minutes}; sign in again")
            return view(*args, **kwargs)

        setattr(guarded, RIGHT, role)
        setattr(guarded, SCOPE, scope)
        return cast(View, guarded)

    return decorate


def out_of_scope(scope: str) -> ApiError:
    """The error for a machine whose token lacks the scope. Records it in the audit log."""
    audit("access", "refused", on=f"{flask.request.method} {flask.request.path}")
    wanted = f"this needs a token with the scope {scope!r}" if scope else "no token of a machine opens this"
    return ApiError(403, 303, f"{wanted}; {flask.g.account.name!r} has {', '.join(flask.g.account.scopes)}")
