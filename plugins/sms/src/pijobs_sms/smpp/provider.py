"""The provider ``smpp``: sends SMS over kept sessions."""

from __future__ import annotations

import logging
import os
import re
import weakref
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pijobs import JobContext, Settings
from pijobs.base import clock, threads
from pijobs.base.network import tls_context
from pijobs.definitions import CONNECTION, LOGIN, PASSWORD, SECURITY, USERNAME, Field, timeout_field
from pijobs_sms import gateways
from pijobs_sms.errors import AccountRefused, GatewayDown, GatewayRefused
from pijobs_sms.gateways import CA_FILE
from pijobs_sms.provider import Provider
from pijobs_sms.receipts import Receipts, expect
from pijobs_sms.smpp.pdus import Address, Command, Pdu, Status, name_of, relative_time, submit
from pijobs_sms.smpp.receipts import take_receipt
from pijobs_sms.smpp.session import Account, Session, SessionLost
from pijobs_sms.smpp.texts import ALPHABETS, parts_of

log = logging.getLogger(__name__)

#: Seconds between two tries to send a part after other parts of the text were sent.
_PAUSE = 1.0

_BUSY = frozenset({Status.ESME_RTHROTTLED, Status.ESME_RMSGQFUL})
# About us, and not about this SMS. That others of ours are bound already (ALYBND, BINDFAIL) passes.
_OURS = frozenset({
    Status.ESME_RINVPASWD, Status.ESME_RINVSYSID, Status.ESME_RINVSYSTYP, Status.ESME_RINVSRCADR,
})  # fmt: skip
#: The sessions of this process.
_ALL: weakref.WeakSet[_Sessions] = weakref.WeakSet()
# The server's trouble, or perhaps this SMS's.
_TROUBLE = frozenset({
    Status.ESME_RSYSERR, Status.ESME_RSUBMITFAIL, Status.ESME_RX_T_APPN, Status.ESME_RDELIVERYFAILURE,
    Status.ESME_RUNKNOWNERR,
})  # fmt: skip


def _check_host(value: str) -> str | None:
    fits = re.fullmatch(r"[\w.-]+|[0-9a-fA-F:.]+", value)
    return None if fits else "expected a host name or an IP address, found another text"


def _check_port(value: int) -> str | None:
    return None if 0 < value < 65536 else f"expected 1 to 65535, found {value}"


FIELDS = (
    Field("host", required=True, check=_check_host, section=CONNECTION, help="name or address of the SMPP server"),
    Field("port", int, default=2775, check=_check_port, section=CONNECTION, help="of the server"),
    Field("tls", bool, default=False, section=SECURITY, help="a connection by TLS"),
    replace(USERNAME, help="the system_id"),
    replace(PASSWORD, belongs_to=("host", "port", "tls")),
    Field("system_type", default="", section=LOGIN, help="if the operator gave you one"),
    Field("sender", default="", help="name or number that the SMS comes from"),
    Field(
        "alphabet", default="gsm", choices=tuple(ALPHABETS),
        help="of texts; those with other letters go in UCS-2. latin1: for servers that don't expect that of GSM",
    ),
    timeout_field(120, "seconds for the session, and for each answer"),
)  # fmt: skip


def in_clear(gateway: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """What others on the network can read without TLS: login, numbers and texts."""
    if not gateway["tls"]:
        yield from gateways.in_clear(gateway["host"], gateway, settings)


def send(ctx: JobContext, gateway: Mapping[str, Any], phone: str, text: str) -> str:
    """Send one SMS, in as many parts as needed."""
    reference = zlib.crc32(ctx.id.encode()) & 0xFF  # the same over all attempts: a phone takes a part once
    try:
        coding, parts = parts_of(text, gateway["alphabet"], reference)
    except ValueError as error:
        raise GatewayRefused(f"the text can't be sent: {error}") from None
    until = clock.monotonic() + min(gateway["timeout"], ctx.time_left())
    session = _Sessions.of(ctx.settings).bound(ctx.settings, gateway, until)
    source, destination = Address.of(gateway["sender"] or ""), Address.of(phone)
    ids: list[str] = []
    ctx.check()
    for part in parts:
        validity = relative_time(ctx.time_left())
        body = submit(source, destination, part, coding, udhi=len(parts) > 1, validity=validity)
        ids.append(_submit(ctx, session, body, gateway, begun=bool(ids)))
    expect(ctx, gateway["identifier"], ids)
    return f"message id {', '.join(ids)}"


def _submit(ctx: JobContext, session: Session, body: bytes, gateway: Mapping[str, Any], *, begun: bool) -> str:
    """Send one part.

    :param begun: whether another part was sent already: then retry for as long as there is time.
    """
    until = clock.monotonic() + min(gateway["timeout"], ctx.time_left())
    while True:
        try:
            answer = session.ask(Command.SUBMIT_SM, body, until - clock.monotonic())
        except SessionLost as error:
            raise GatewayDown(f"{gateway['host']}: {error}", maybe_sent=begun or error.sent) from None
        if not (begun and answer.status in _BUSY and clock.monotonic() + _PAUSE < until):
            break
        clock.sleep(_PAUSE)
    if answer.status == Status.ESME_RINVBNDSTS:
        session.close()
    _judge(answer.status, begun=begun)
    return answer.message_id


def _judge(status: int, *, begun: bool = False) -> None:
    """:raises SmsError: for a status other than ok."""
    name = name_of(status)
    if status in _BUSY:
        raise GatewayDown(f"the gateway wants us to slow down: {name}", maybe_sent=begun)
    if status == Status.ESME_RINVBNDSTS:
        raise GatewayDown(f"the gateway knows our session no more: {name}", maybe_sent=begun)
    if status in _TROUBLE:
        raise GatewayDown(f"the gateway failed: {name}", counted=True, maybe_sent=begun)
    if status in _OURS:
        raise AccountRefused(f"the gateway takes nothing from us: {name}", maybe_sent=begun)
    if status:
        raise GatewayRefused(f"the gateway refused: {name}", maybe_sent=begun)


class _Sessions:
    """The sessions of a process: one for each gateway; bound again if it ended, or if the definition changed."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._guard = threads.Lock()
        self._locks: dict[str, threads.Lock] = {}
        self._kept: dict[str, tuple[Account, Session]] = {}
        #: Time and error of the last failed bind, by gateway.
        self._failed: dict[str, tuple[float, GatewayDown | AccountRefused]] = {}
        _ALL.add(self)

    @classmethod
    def of(cls, settings: Settings) -> _Sessions:
        """The sessions of this process: a fork does not share its parent's."""

        def make() -> _Sessions:
            sessions = cls()
            weakref.finalize(settings, sessions.close).atexit = False
            return sessions

        return settings.resource((cls, os.getpid()), make)

    def close(self) -> None:
        """Unbind all sessions, except those that a fork inherited."""
        if self._process != os.getpid():
            return
        with self._guard:
            kept, self._kept = self._kept, {}
        for _, session in kept.values():
            session.unbind()

    def bound(self, settings: Settings, gateway: Mapping[str, Any], until: float) -> Session:
        """The session of a gateway. One thread binds; waiting threads share its success or failure.

        :param until: end of the wait, on the monotonic clock.
        :raises SmsError: if there is none.
        """
        asked, identifier = clock.monotonic(), gateway["identifier"]
        account = _account(settings, gateway)
        with self._guard:
            lock = self._locks.setdefault(identifier, threads.Lock())
        if not lock.acquire(timeout=max(0.0, until - asked)):
            raise GatewayDown(f"no session with {account.host}: another thread still tries to bind")
        try:
            known, session = self._kept.get(identifier, (None, None))
            if session is not None and known == account and session.is_alive:
                return session
            failed_at, error = self._failed.get(identifier, (0.0, None))
            if error is not None and failed_at > asked:
                raise error
            if session is not None:
                session.unbind()
            return self._bind(settings, identifier, account, until)
        finally:
            lock.release()

    def _bind(self, settings: Settings, identifier: str, account: Account, until: float) -> Session:
        try:
            session = self._bound(settings, identifier, account, until - clock.monotonic())
        except (GatewayDown, AccountRefused) as error:
            self._failed[identifier] = clock.monotonic(), error
            raise
        self._kept[identifier] = account, session
        log.info("SMS gateway %s: bound to %s as %s", identifier, account.host, account.system_id)
        return session

    def _bound(self, settings: Settings, identifier: str, account: Account, seconds: float) -> Session:
        installation = weakref.ref(settings)

        def received(pdu: Pdu) -> int:
            known = installation()
            return Status.ESME_RX_T_APPN if known is None else take_receipt(Receipts.of(known), identifier, pdu)

        try:
            session = Session(account, received, seconds)
        except (OSError, SessionLost) as error:
            why = getattr(error, "strerror", None) or error
            raise GatewayDown(f"no session with {account.host}: {why}") from None
        if session.bound:
            session.close()
            if session.bound in _OURS:
                raise AccountRefused(f"{account.host} does not let us bind: {name_of(session.bound)}")
            raise GatewayDown(f"{account.host} does not let us bind: {name_of(session.bound)}")
        return session


def unbind_all() -> None:
    """Unbind from all servers: some refuse another bind until they notice the end of a process."""
    for sessions in list(_ALL):
        sessions.close()


def _account(settings: Settings, gateway: Mapping[str, Any]) -> Account:
    try:
        tls = tls_context(settings[CA_FILE]) if gateway["tls"] else None
    except OSError as error:
        raise GatewayDown(f"the file of {CA_FILE} can't be read: {error.strerror or error}") from None
    username, password, system_type = (gateway[name] or "" for name in ("username", "password", "system_type"))
    return Account(gateway["host"], gateway["port"], username, password, system_type, tls)


PROVIDER = Provider("smpp", FIELDS, send, in_clear)
