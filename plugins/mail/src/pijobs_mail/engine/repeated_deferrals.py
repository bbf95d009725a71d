"""Detects deferrals that are the server's trouble: several different mails in a row get the same reply."""

from __future__ import annotations

from dataclasses import dataclass, field

from pijobs.base import clock, threads
from pijobs_mail.engine.delivery import Delivery, Endpoint, Mail, Outcome
from pijobs_mail.engine.replies import Reply, Step, Verdict
from pijobs_mail.engine.verdicts import may_concern_server

#: How many different mails in a row.
SEVERAL = 3
#: Seconds after which they are forgotten.
MEMORY = 3600.0

_Kind = tuple[Step, int, "str | None"]


@dataclass
class _Row:
    kind: _Kind
    mails: set[int] = field(default_factory=set)
    last: float = 0.0


class RepeatedDeferrals:
    """The equal deferrals in a row, by server. An accepted mail ends the row of its server."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._rows: dict[Endpoint, _Row] = {}

    def count(self, endpoint: Endpoint, mail: Mail, delivery: Delivery) -> Reply | None:
        """The reply, if enough different mails in a row got it to count as the server's trouble."""
        now = clock.monotonic()
        with self._lock:
            self._rows = {place: row for place, row in self._rows.items() if now - row.last < MEMORY}
            if delivery.having(Verdict.ACCEPTED):
                self._rows.pop(endpoint, None)
                return None
            outcome = next(filter(_may_concern_server, delivery.outcomes.values()), None)
            if outcome is None:  # refused, greylisted: not about the server
                return None
            kind = outcome.step, outcome.reply.code, outcome.reply.enhanced
            row = self._rows.get(endpoint)
            if row is None or row.kind != kind:
                row = self._rows[endpoint] = _Row(kind)
            row.last = now
            if len(row.mails) < SEVERAL:
                row.mails.add(_what_differs(mail, outcome))
            return outcome.reply if len(row.mails) >= SEVERAL else None


def _may_concern_server(outcome: Outcome) -> bool:
    return outcome.verdict is Verdict.DEFERRED and may_concern_server(outcome.reply, outcome.step)


def _what_differs(mail: Mail, outcome: Outcome) -> int:
    """If the reply may be about the recipient, two mails to the same recipient count as one."""
    names_one, policy = "@" in outcome.reply.text, (outcome.reply.enhanced or "").startswith("4.7.")
    if outcome.step is Step.RCPT and (names_one or not policy):
        return hash(mail.recipients)
    return hash(mail.sender if names_one and outcome.step is Step.MAIL else mail.content)
