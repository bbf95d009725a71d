"""Actions on instances: the states that allow them, and their texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pijobs.jobs import ENDED, WAITING, State
from pijobs.server.pages.languages import _

#: The states that allow each action.
ACTIONS: Mapping[str, frozenset[State]] = {
    "retry": frozenset({State.DEAD}), "cancel": frozenset(WAITING), "delete": frozenset(ENDED),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """Texts of an action: ``one`` and ``many`` ask for confirmation, ``done_one`` and ``done_many`` tell the result."""

    do: str
    one: str
    many: str
    more: str
    done_one: str
    done_many: str
    nothing: str
    only: str


def words(action: str) -> Words:
    """The texts of an action. Those with numbers are translated later, when the number is known."""
    if action == "retry":
        return Words(
            _("Retry"), "Retry 1 instance", "Retry {at_least}{number} instances",
            _("Each is queued again and gets all its attempts again."),
            "1 instance queued again.", "{number} instances queued again.",
            _("There is nothing to retry"), _("Only dead ones can be queued again."),
        )  # fmt: skip
    if action == "cancel":
        return Words(
            _("Cancel"), "Cancel 1 instance", "Cancel {at_least}{number} instances",
            _("Each ends without its effect. That can't be undone."),
            "1 instance cancelled.", "{number} instances cancelled.",
            _("There is nothing to cancel"), _("Only what waits can be cancelled."),
        )  # fmt: skip
    return Words(
        _("Delete"), "Delete 1 instance", "Delete {at_least}{number} instances",
        _("Their records are deleted for good."),
        "1 instance deleted.", "{number} instances deleted.",
        _("There is nothing to delete"), _("Only what has ended can be deleted."),
    )  # fmt: skip
