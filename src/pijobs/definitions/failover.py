"""A second destination takes over while the first is in trouble.

Each process remembers which destinations failed, by the policy of circuit breakers in :mod:`pijobs.execution.groups`.
One whose breaker is open is tried last, so a dead one costs its time-out only now and then, and not at every attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pijobs.base import clock
from pijobs.base.clock import to_ms
from pijobs.definitions.fields import IDENTIFIER, Field
from pijobs.errors import DefinitionNotFound, DefinitionUnreadable, DestinationDown
from pijobs.execution.groups import Policy, after_failure

if TYPE_CHECKING:
    from pijobs.definitions.store import DefinitionStore

D = TypeVar("D")
T = TypeVar("T")

#: The field that names the fallback.
FALLBACK = Field(
    "fallback", default="", section="Second server",
    help="identifier of the one that takes over when this one is in trouble",
)  # fmt: skip


class Failover:
    """Destinations that take over for each other, as one process knows them; a resource of the settings.

    :param now: a clock in seconds.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or clock.monotonic
        #: By kind and identifier: the policy, and until when the breaker is open (ms).
        self._known: dict[tuple[str, str], tuple[Policy, int]] = {}

    def in_turn(
        self,
        store: DefinitionStore,
        identifier: str,
        attempt: Callable[[dict[str, Any]], T],
        *,
        trouble: type[Exception] | tuple[type[Exception], ...] = DestinationDown,
        fits: Callable[[dict[str, Any], dict[str, Any]], bool] = lambda first, other: True,
    ) -> T:
        """The result of the first attempt that succeeds: with the definition, then with its fallbacks.

        :param attempt: given a definition; an error other than the ``trouble`` ends the search.
        :param fits: whether another one may take over for the first; both definitions are given.
        :raises DefinitionNotFound: no definition has that identifier; a missing fallback is skipped.
        :raises DefinitionUnreadable: likewise.
        :raises Exception: the trouble of the definition itself, if none succeeded.
        """
        first, *others = chain_of(store, identifier)
        usable = [first, *(other for other in others if fits(first, other))]
        chain = {(store.kind, one[IDENTIFIER]): one for one in usable}
        return self.first_of(chain, attempt, trouble=trouble)

    def first_of(
        self,
        chain: Mapping[tuple[str, str], D],
        attempt: Callable[[D], T],
        *,
        trouble: type[Exception] | tuple[type[Exception], ...] = DestinationDown,
    ) -> T:
        """The same for destinations that are defined elsewhere.

        :param chain: by kind and name; a later one takes over for those before it.
        :raises Exception: the trouble of the first, if none succeeded.
        """
        troubles: dict[tuple[str, str], Exception] = {}
        for place in sorted(chain, key=self._is_open):
            began = to_ms(self._now())
            try:
                result = attempt(chain[place])
            except trouble as error:
                troubles[place] = error
                self._failed(place, began, error)
            else:
                self._known.pop(place, None)
                return result
        raise troubles[next(iter(chain))]

    def trouble(self, store: DefinitionStore, identifier: str) -> str | None:
        """The error text of the last failure of a destination; None after a success."""
        known = self._known.get((store.kind, identifier))
        return known[0].reason if known else None

    def _is_open(self, place: tuple[str, str]) -> bool:
        return place in self._known and to_ms(self._now()) < self._known[place][1]

    def _failed(self, place: tuple[str, str], began: int, error: Exception) -> None:
        policy, open_until = self._known.get(place, (Policy(), 0))
        retry_after = getattr(error, "retry_after", None)
        policy, blocked = after_failure(
            policy, now=to_ms(self._now()), began=began, workers=1,
            retry_after=None if retry_after is None else to_ms(retry_after), reason=str(error),
        )  # fmt: skip
        self._known[place] = policy, blocked or open_until


def chain_of(store: DefinitionStore, identifier: str) -> list[dict[str, Any]]:
    """The definition, and those that take over for it, each once.

    :raises DefinitionNotFound: no definition has that identifier; a missing fallback ends the chain.
    :raises DefinitionUnreadable: it can't be read; a fallback that can't ends the chain.
    """
    chain = [store.get(identifier)]
    while (name := chain[-1][FALLBACK.name]) and name not in [one[IDENTIFIER] for one in chain]:
        try:
            chain.append(store.get(name))
        except (DefinitionNotFound, DefinitionUnreadable):
            break
    return chain
