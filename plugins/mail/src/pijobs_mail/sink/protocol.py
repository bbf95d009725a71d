"""One connection of the SMTP sink: aiosmtpd's protocol, with delays and faults on request."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from pijobs_mail.sink.behaviour import Behaviour, Fault, Received


class Protocol(SMTP):
    """One connection."""

    def __init__(self, sink: Behaviour, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            _Keep(sink),
            hostname="sink.example",
            ident="pijobs sink",
            loop=loop,
            tls_context=None if sink.implicit_tls else sink.tls,
            authenticator=self._log_in,
            # The client decides whether to log in without TLS, and the tests check it.
            auth_require_tls=False,
            enable_SMTPUTF8="SMTPUTF8" in sink.offers,
            auth_exclude_mechanism=[
                *(("PLAIN", "LOGIN") if sink.logins is None else ()),
                *(("XOAUTH2",) if sink.tokens is None else ()),
            ],
        )
        self._sink = sink
        self._step = "GREETING"
        #: The fault instead of the reply to the last mail.
        self.end_fault: Fault | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # STARTTLS calls this again for the same connection.
        assert isinstance(transport, asyncio.WriteTransport)
        self._sink.connected(transport, first=self._original_transport is None)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sink.disconnected(self.transport)
        super().connection_lost(error)

    async def push(self, status: Any) -> None:
        """Send a line of a reply, after the delay; or a fault instead."""
        line = status if isinstance(status, bytes) else status.encode()
        if line[3:4] != b"-":
            await asyncio.sleep(self._sink.delay)
        step, fault = self._step, None
        if step == "GREETING":
            self._sink.steps[step] += 1
            fault = self._sink.fault_at(step)
        elif step == "END":
            fault, self.end_fault = self.end_fault, None
        if step != "DATA":
            self._step = ""
        elif line.startswith(b"354"):
            self._step = "END"
        if fault is None:
            await super().push(line)
        else:
            await self._fail(fault)

    async def check_auth_needed(self, caller_method: str) -> bool:
        assert self.session is not None
        if (self._sink.logins is None and self._sink.tokens is None) or self.session.authenticated:
            return False
        await self.push("530 5.7.0 Authentication required")
        return True

    async def auth_XOAUTH2(self, _: SMTP, args: list[str]) -> AuthResult:
        fields = dict(each.partition("=")[::2] for each in base64.b64decode(args[1]).decode().split("\1"))
        user, token = fields.get("user", ""), (self._sink.tokens or {}).get(fields.get("user", ""))
        if token is not None and fields.get("auth") == f"Bearer {token}":
            return AuthResult(success=True, auth_data=LoginPassword(user.encode(), b""))
        # As Google does: the reason in JSON as a challenge, which the client confirms by an empty answer.
        await self.challenge_auth(b'{"status":"400","schemes":"Bearer"}')
        return AuthResult(success=False, handled=False)

    async def smtp_EHLO(self, hostname: str) -> None:
        await self._at("EHLO", super().smtp_EHLO, hostname)

    async def smtp_HELO(self, hostname: str) -> None:
        await self._at("HELO", super().smtp_HELO, hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:
        await self._at("STARTTLS", super().smtp_STARTTLS, arg)

    async def smtp_AUTH(self, arg: str) -> None:
        await self._at("AUTH", super().smtp_AUTH, arg)

    async def smtp_MAIL(self, arg: str | None) -> None:
        await self._at("MAIL", super().smtp_MAIL, arg)

    async def smtp_RCPT(self, arg: str | None) -> None:
        await self._at("RCPT", super().smtp_RCPT, arg)

    async def smtp_DATA(self, arg: str) -> None:
        await self._at("DATA", super().smtp_DATA, arg)

    async def smtp_BDAT(self, arg: str) -> None:
        await self._at("BDAT", self._chunk, arg)

    async def _chunk(self, arg: str) -> None:
        """Receive the whole mail as one chunk (RFC 3030). Several chunks are not supported."""
        size, _, last = arg.partition(" ")
        content = await self._reader.readexactly(int(size))
        assert self.envelope is not None and self.session is not None
        if not self.envelope.rcpt_tos or last.upper() != "LAST":
            await self.push("503 5.5.1 no recipients, or not one chunk")
            return
        self.envelope.content = self.envelope.original_content = content
        self._step = "END"
        keep = self.event_handler
        status = await keep.handle_DATA(self, self.session, self.envelope)
        self._set_post_data_state()  # type: ignore[no-untyped-call]
        await self.push(status)

    async def smtp_RSET(self, arg: str) -> None:
        await self._at("RSET", super().smtp_RSET, arg)

    async def smtp_QUIT(self, arg: str) -> None:
        await self._at("QUIT", super().smtp_QUIT, arg)

    async def _at(self, step: str, method: Callable[[Any], Awaitable[None]], argument: Any) -> None:
        self._step = step
        self._sink.steps[step] += 1
        fault = self._sink.fault_at(step, argument)
        if fault is None:
            await method(argument)
        else:
            await asyncio.sleep(self._sink.delay)
            await self._fail(fault)

    async def _fail(self, fault: Fault) -> None:
        if fault.hang:
            await asyncio.Event().wait()
        if fault.raw or fault.reply:
            self._writer.write(fault.raw or fault.reply.encode() + b"\r\n")
            await self._writer.drain()
        if (fault.drop or fault.reply.startswith("421")) and self.transport is not None:
            self.transport.close()

    def _log_in(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: Any) -> AuthResult:
        known = self._sink.logins or {}
        assert isinstance(login, LoginPassword)
        user = login.login.decode()
        if user in known and known[user].encode() == login.password:
            return AuthResult(success=True, auth_data=login)
        return AuthResult(success=False, handled=False)


class _Keep:
    """The handler of aiosmtpd, which receives whole mails."""

    def __init__(self, sink: Behaviour) -> None:
        self._sink = sink

    async def handle_EHLO(
        self, server: Protocol, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        offers = [
            *responses[:-1],
            *(f"250-{keyword}" for keyword in self._sink.offers if keyword != "SMTPUTF8"),
            responses[-1],
        ]
        return [line for line in offers if line[4:].partition(" ")[0] not in self._sink.without]

    async def handle_DATA(self, server: Protocol, session: Session, envelope: Envelope) -> str:
        self._sink.steps["END"] += 1
        server.end_fault = self._sink.fault_at("END")
        # Do not keep a refused mail; keep one whose reply gets lost.
        if server.end_fault is None or not server.end_fault.reply:
            self._sink.keep(self._received(session, envelope))
        return f"250 2.0.0 Ok: queued as S{len(self._sink.mails):06X}"

    def _received(self, session: Session, envelope: Envelope) -> Received:
        login = getattr(session.auth_data, "login", None)
        return Received(
            sender=envelope.mail_from or "",
            recipients=tuple(str(recipient) for recipient in envelope.rcpt_tos),
            content=bytes(envelope.original_content or b""),
            encrypted=session.ssl is not None or self._sink.implicit_tls,
            login=login.decode() if isinstance(login, bytes) else None,
            at=time.time(),
        )
