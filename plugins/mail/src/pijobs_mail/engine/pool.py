"""Connections that stay open between mails, shared by the threads of one process, limited per server."""

from __future__ import annotations

import atexit
import functools
import os
import weakref
from dataclasses import dataclass, field

from pijobs.base import clock, threads
from pijobs_mail.engine.connection import close_all
from pijobs_mail.engine.delivery import NO_DEADLINE, Deadline, Delivery, Endpoint, Mail
from pijobs_mail.engine.repeated_deferrals import RepeatedDeferrals
from pijobs_mail.engine.replies import Step, Verdict
from pijobs_mail.engine.reporting import error_with_reply
from pijobs_mail.engine.transport import Conversation
from pijobs_mail.engine.verdicts import says_too_many
from pijobs_mail.errors import Busy, ConnectionLost, FalseFeature, LoginRefused, MailError, ServerTrouble

#: Seconds without a mail after which a connection is closed.
IDLE = 30.0
#: Seconds without a mail after which a connection is tested before it gets one.
CHECK_AFTER = 5.0
#: Longest life of a connection in seconds: servers close old ones, and load balancers want to balance.
MAX_AGE = 300.0
#: Connections to a server, by default.
CONNECTIONS = 10
#: Seconds to remember that a server does not do what it offers.
MEMORY = 3600.0


@dataclass(eq=False)
class _Line:
    """A connection, and what decides how long it stays open."""

    conversation: Conversation
    opened: float
    used: float
    mails: int = 0
    #: The server accepts no more mails over it.
    used_up: bool = False


@dataclass(eq=False)
class _Lines:
    """The connections to one endpoint."""

    idle: list[_Line] = field(default_factory=list)
    busy: int = 0
    distrusted: frozenset[str] = frozenset()
    until: float = 0.0


class Pool:
    """Connections by endpoint. Nothing connects, and no thread starts, before the first mail."""

    def __init__(self) -> None:
        self._forget()
        this = weakref.ref(self)

        def forget() -> None:
            if (pool := this()) is not None:
                pool._forget()

        os.register_at_fork(after_in_child=forget)

    def deliver(
        self, endpoint: Endpoint, mail: Mail, deadline: Deadline = NO_DEADLINE, *, share: int = CONNECTIONS
    ) -> Delivery:
        """Send one mail over an open connection, or a new one. Raises as
        :func:`pijobs_mail.engine.transport.deliver`, and
        :class:`~pijobs_mail.errors.Busy`.

        :param share: how many connections to the endpoint this process may have; 0: one, while the mail is sent.

        If an open connection turns out to be closed or used up, or the server does not do what it offers, the mail is
        tried again at once, but only if it is certain that nothing was sent.
        """
        without, fresh = self._distrusted(endpoint), False
        while True:
            line = self._take(endpoint, without, deadline, share, fresh=fresh)
            kept = line.mails > 0
            try:
                delivery = line.conversation.send(mail, deadline)
            except (ConnectionLost, ServerTrouble) as error:
                more = _suspects(line.conversation, error)
                if kept and _is_over(error):
                    fresh = True
                elif more:
                    without, fresh = without | more, True
                else:
                    raise
            else:
                line.mails += 1
                if kept and _is_used_up(delivery):
                    line.used_up = fresh = True
                    continue
                if delivery.having(Verdict.ACCEPTED):
                    self._remember(endpoint, without)
                if (reply := self._deferrals.count(endpoint, mail, delivery)) is not None:
                    raise error_with_reply(ServerTrouble, f"{endpoint} takes no mail now", reply, supposed=True)
                return delivery
            finally:
                self._give_back(endpoint, line, share)

    def close(self) -> None:
        """Send QUIT on all idle connections."""
        with self._lock:
            lines = [line for place in self._places.values() for line in place.idle]
            for place in self._places.values():
                place.idle.clear()
            self._freed.notify_all()
            self._closed.notify_all()
        close_all(line.conversation for line in lines)

    def _forget(self) -> None:
        """After a fork: the connections belong to the parent. Close our copies, which sends nothing to the server."""
        for conversation in list(getattr(self, "_open_ones", ())):
            conversation.abandon()
        #: The connections in use. Those that threads of the parent use do not belong to this process.
        self._open_ones: weakref.WeakSet[Conversation] = weakref.WeakSet()
        self._lock = threads.Lock()
        #: A connection, or room for one, has become free. It is separate from the condition of the reaper, because
        #: waking the reaper after each mail would cost as much as the connection.
        self._freed, self._closed = threads.Condition(self._lock), threads.Condition(self._lock)
        self._places: dict[Endpoint, _Lines] = {}
        self._deferrals = RepeatedDeferrals()
        self._reaper: threads.Thread | None = None

    def _distrusted(self, endpoint: Endpoint) -> frozenset[str]:
        with self._lock:
            place = self._places.get(endpoint)
            return place.distrusted if place is not None and clock.monotonic() < place.until else frozenset()

    def _remember(self, endpoint: Endpoint, without: frozenset[str]) -> None:
        with self._lock:
            place = self._places.setdefault(endpoint, _Lines())
            if without != place.distrusted:
                place.distrusted, place.until = without, clock.monotonic() + MEMORY

    def _take(
        self, endpoint: Endpoint, without: frozenset[str], deadline: Deadline, share: int, *, fresh: bool
    ) -> _Line:
        while True:
            line = self._wait_for_one(endpoint, deadline, max(1, share))
            if line is None:
                return self._open(endpoint, without, deadline)
            try:
                if not fresh and self._good(line, deadline):
                    return line
                line.conversation.close() if fresh else line.conversation.abandon()
            except BaseException:  # the mail's deadline passed while an idle connection was tested
                self._release(endpoint)
                raise
            self._release(endpoint)

    def _wait_for_one(self, endpoint: Endpoint, deadline: Deadline, most: int) -> _Line | None:
        """An idle connection, now busy; None: there is room for a new one, which is already counted."""
        until = clock.monotonic() + min(endpoint.timeout, deadline.time_left())
        with self._lock:
            place = self._places.setdefault(endpoint, _Lines())
            while not place.idle and place.busy >= most:
                if not self._freed.wait(until - clock.monotonic()) and clock.monotonic() >= until:
                    deadline.check()
                    raise Busy(f"all {most} connections to {endpoint} that this process may have are in use")
            place.busy += 1
            return place.idle.pop() if place.idle else None

    def _good(self, line: _Line, deadline: Deadline) -> bool:
        if not line.conversation.usable:
            return False
        if clock.monotonic() - line.used >= CHECK_AFTER:
            try:
                line.conversation.check(deadline)
            except MailError:
                return False
        return True

    def _open(self, endpoint: Endpoint, without: frozenset[str], deadline: Deadline) -> _Line:
        conversation = Conversation(endpoint, without)
        self._open_ones.add(conversation)
        try:
            conversation.open(deadline)
        except BaseException:
            self._release(endpoint)
            raise
        now = clock.monotonic()
        return _Line(conversation, now, now)

    def _release(self, endpoint: Endpoint) -> None:
        with self._lock:
            self._places[endpoint].busy -= 1
            self._freed.notify_all()

    def _give_back(self, endpoint: Endpoint, line: _Line, share: int) -> None:
        line.used = clock.monotonic()
        worn = line.used_up or line.mails >= line.conversation.max_mails or line.used - line.opened >= MAX_AGE
        worn = worn or not line.conversation.usable
        with self._lock:
            place = self._places.get(endpoint)
            if place is None:  # a fork in between
                return
            kept = [*place.idle, *([] if worn else [line])]
            # Close the surplus ones that were idle longest, before the next one begins.
            surplus = max(0, len(kept) + place.busy - 1 - share)
            place.idle = kept[surplus:]
            place.busy += surplus + worn - 1
            if place.idle:
                self._watch()
            self._freed.notify_all()
        for other in [*kept[:surplus], *([line] if worn else [])]:
            try:
                other.conversation.close()
            finally:
                self._release(endpoint)

    def _watch(self) -> None:
        if self._reaper is None:
            self._reaper = threads.Thread(target=self._reap, name="smtp-idle", daemon=True)
            self._reaper.start()

    def _reap(self) -> None:
        """Close connections that were idle for too long. Ends when there are no idle ones."""
        while True:
            with self._lock:
                now = clock.monotonic()
                old = []
                for place in self._places.values():
                    old += [line for line in place.idle if now - line.used >= IDLE]
                    place.idle = [line for line in place.idle if now - line.used < IDLE]
                waiting = [line.used for place in self._places.values() for line in place.idle]
                if not waiting and not old:
                    unused = [where for where, place in self._places.items() if not place.busy and now >= place.until]
                    for where in unused:
                        del self._places[where]
                    self._reaper = None
                    return
                if not old:
                    self._closed.wait(max(0.05, min(waiting) + IDLE - now))
            close_all(line.conversation for line in old)


@functools.cache
def process_pool() -> Pool:
    """The pool of this process; closed at its end."""
    pool = Pool()
    atexit.register(pool.close)
    return pool


def _is_over(error: MailError) -> bool:
    """Whether the error may only mean that a kept connection has ended."""
    reply = getattr(error, "reply", None)
    # A login may end before its connection, especially one with an access token.
    return reply is None or reply.temporary or isinstance(error, LoginRefused)


def _is_used_up(delivery: Delivery) -> bool:
    """Whether a connection that accepted mails before accepts no more. At MAIL no recipient is known. Later replies are
    about the mail, unless they say "too many"."""
    outcomes = delivery.outcomes.values()
    return all(
        not outcome.reply.accepted
        and ((outcome.reply.temporary and outcome.step is Step.MAIL) or says_too_many(outcome.reply))
        for outcome in outcomes
    )


def _suspects(conversation: Conversation, error: MailError) -> frozenset[str]:
    """The features to omit after a failure that an unsupported feature could have caused."""
    if isinstance(error, FalseFeature):
        return frozenset({error.keyword})
    if getattr(error, "reply", None) is not None:
        return frozenset()
    return frozenset({"PIPELINING", "CHUNKING"}) & conversation.features.keys()
