"""One connection to an SMTP server: opening, encryption, login, commands and replies, and what replies mean for it."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any

from pijobs.base import clock, traces
from pijobs.base.network import Address, look_up, tls_context
from pijobs_mail.engine import auth, hints, oauth
from pijobs_mail.engine.delivery import MAILS_PER_CONNECTION, MAILS_TO_POSTFIX, NO_DEADLINE, Deadline, Endpoint
from pijobs_mail.engine.features import offers
from pijobs_mail.engine.hints import advised
from pijobs_mail.engine.replies import ProtocolError, Reply, Step, Verdict
from pijobs_mail.engine.verdicts import judge, retry_after
from pijobs_mail.engine.wire import Wire
from pijobs_mail.engine.words import tell_reply, trouble, why
from pijobs_mail.errors import ConnectionLost, LoginRefused, ServerTrouble, TlsRefused

#: Seconds to wait for the reply to QUIT after a mail was delivered.
QUIT_TIMEOUT = 5.0


class Connection:
    """One connection to one server. It is not thread-safe."""

    def __init__(self, endpoint: Endpoint, without: frozenset[str] = frozenset()) -> None:
        """:param without: features to ignore, even if the server offers them."""
        self.endpoint = endpoint
        self._without = without
        #: The features in the server's answer to EHLO: keyword to parameters, both in capitals.
        self.features: Mapping[str, str] = MappingProxyType({})
        self._wire: Wire | None = None
        self._unfinished = False
        #: How many mails may go over it.
        self.most = endpoint.mails or MAILS_PER_CONNECTION
        #: Whether the server accepted a chunk on this connection, and reported the id of the mail.
        self._names_mails = False

    def open(self, deadline: Deadline = NO_DEADLINE) -> None:
        """Connect, greet, encrypt and log in, as the endpoint requires.

        :raises ServerTrouble: or a subclass, for every failure.
        """
        try:
            with self._span("connect"):
                self._reach(deadline)
            self._hello(deadline)
            if self.endpoint.security == "starttls":
                self._start_tls(deadline)
            if self.endpoint.username or self.endpoint.oauth:
                self._login(deadline)
        except BaseException:
            self.abandon()
            raise

    def close(self) -> None:
        """Send QUIT. Its result does not matter for mails that the server accepted."""
        close_all([self])

    def _say_good_bye(self, seconds: float) -> None:
        try:
            self._link.send(b"QUIT\r\n", seconds)
        except OSError:
            self.abandon()

    def _hang_up(self, seconds: float) -> None:
        try:
            self._link.reply(min(self.endpoint.timeout, seconds))
        except (OSError, ProtocolError):
            pass
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without QUIT."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    @property
    def usable(self) -> bool:
        """Whether another mail can follow. It can't after unexpected input, or if the connection is closed."""
        return self._wire is not None and self._wire.quiet()

    def check(self, deadline: Deadline = NO_DEADLINE) -> None:
        """Test an idle connection with one round trip: a device in between may have dropped it.

        :raises ServerTrouble: or :class:`ConnectionLost`, it can't be used any more.
        """
        try:
            self._expect(Step.MAIL, self._ask(Step.MAIL, "RSET", deadline))
        except BaseException:
            self.abandon()
            raise
        self._unfinished = False

    def _reach(self, deadline: Deadline) -> None:
        """Connect to the first of the host's addresses that greets (RFC 5321 5.1).

        They share the time for connecting. For its greeting, each has its share of the time until the deadline.
        """
        started, seconds = clock.monotonic(), self._seconds(deadline)
        with self._connecting(deadline, seconds):
            addresses = look_up(self.endpoint.host, self.endpoint.port, seconds)
        seconds -= clock.monotonic() - started
        for left in range(len(addresses), 0, -1):
            started, share = clock.monotonic(), seconds / left
            try:
                self._connect(addresses[-left], share, deadline)
                self._expect(Step.GREETING, greeting := self._ask(Step.GREETING, None, deadline.share(left)))
                if self.endpoint.mails is None and "ESMTP Postfix" in greeting.text:
                    self.most = MAILS_TO_POSTFIX
                return
            except ServerTrouble:
                self.abandon()
                if left == 1:
                    raise
            seconds -= min(clock.monotonic() - started, share)

    def _connect(self, address: Address, share: float, deadline: Deadline) -> None:
        started, seconds = clock.monotonic(), min(share, deadline.time_left())
        with self._connecting(deadline, seconds):
            self._wire = Wire.connect(address, seconds)
        if self.endpoint.security == "tls":
            self._encrypt(deadline, seconds - (clock.monotonic() - started))

    @contextmanager
    def _connecting(self, deadline: Deadline, seconds: float) -> Iterator[None]:
        endpoint = self.endpoint
        try:
            yield
        except TimeoutError:
            deadline.check()
            raise ServerTrouble(f"no connection to {endpoint} within {seconds:.1f} s") from None
        except socket.gaierror as error:
            raise ServerTrouble(f"the name {endpoint.host!r} has no address: {error.strerror}") from None
        except OSError as error:
            raise ServerTrouble(f"no connection to {endpoint}: {error.strerror or error}") from None

    def _encrypt(self, deadline: Deadline, seconds: float) -> None:
        endpoint = self.endpoint
        try:
            context = tls_context(endpoint.ca_file, verify=endpoint.verify)
        except OSError as error:
            raise TlsRefused(f"the CA file can't be used: {why(error)}") from None
        try:
            with self._span("TLS"):
                self._link.start_tls(context, endpoint.host, seconds)
        except TimeoutError:
            deadline.check()
            raise ServerTrouble(f"no TLS handshake with {endpoint} within {seconds:.1f} s") from None
        except ssl.SSLCertVerificationError as error:
            said = f"the certificate of {endpoint} is not accepted: {error.verify_message}"
            raise TlsRefused(advised(said, hints.for_certificate(endpoint, error))) from None
        except (OSError, ProtocolError) as error:
            said = f"no TLS connection to {endpoint}: {why(error)}"
            raise TlsRefused(advised(said, hints.for_handshake(endpoint, error))) from None

    def _hello(self, deadline: Deadline) -> None:
        name = self._own_name()
        reply = self._ask(Step.EHLO, f"EHLO {name}", deadline)
        if not reply.accepted and not reply.temporary:  # RFC 5321 3.2: an old server supports HELO only
            reply = self._ask(Step.EHLO, f"HELO {name}", deadline)
            self._expect(Step.EHLO, reply)
            self.features = MappingProxyType({})
            return
        self._expect(Step.EHLO, reply)
        self.features = MappingProxyType(offers(reply, self._without))

    def _own_name(self) -> str:
        return self.endpoint.ehlo or _host_name() or self._link.own_literal

    def _start_tls(self, deadline: Deadline) -> None:
        if "STARTTLS" not in self.features:
            raise TlsRefused(f"STARTTLS is asked for, but {self.endpoint} does not offer it; no mail without it")
        reply = self._ask(Step.STARTTLS, "STARTTLS", deadline)
        if not reply.accepted:
            raise TlsRefused(f"{self.endpoint} refused STARTTLS: {reply}", reply=reply, retry_after=retry_after(reply))
        self._encrypt(deadline, self._seconds(deadline))
        self._hello(deadline)  # RFC 3207 4.2: discard what was offered without TLS

    def _login(self, deadline: Deadline) -> None:
        endpoint = self.endpoint
        if not (self._link.encrypted or endpoint.login_without_tls or self._link.loopback):
            raise LoginRefused(f"login and password go to {endpoint} in clear only where that is allowed; use TLS")
        grant, secret = endpoint.oauth, endpoint.password
        if grant is not None:
            secret = oauth.access_token(grant, self._seconds(deadline))
        offered = self.features.get("AUTH", "").split()

        def ask(command: str) -> Reply:
            return self._ask(Step.AUTH, command, deadline)

        try:
            done = auth.log_in(offered, endpoint.username, secret, ask, token=grant is not None)
        except auth.ServerUnknown as error:
            raise LoginRefused(f"{endpoint}: {error}") from None
        if done is None:
            raise LoginRefused(f"{endpoint}: {auth.unknown(offered)}")
        if grant is not None and not done[1].accepted:
            oauth.forget(grant)
        self._expect(Step.AUTH, done[1])

    def _ask(self, step: Step, command: str | None, deadline: Deadline) -> Reply:
        """Send a command and wait for its reply. Without a command, read the reply to an earlier one."""
        if command is None:
            return self._answer(step, None, deadline)
        with self._span(str(step)) as span:
            reply = self._answer(step, command, deadline)
            tell_reply(span, reply)
            return reply

    def _span(self, step: str) -> AbstractContextManager[Any]:
        return traces.span(
            f"smtp {step}", "CLIENT", server__address=self.endpoint.host, server__port=self.endpoint.port
        )

    def _answer(self, step: Step, command: str | None, deadline: Deadline) -> Reply:
        seconds = self._seconds(deadline)
        try:
            if command is not None:
                self._tell(command.split("\r\n"), seconds)
            return self._link.reply(seconds)
        except TimeoutError:
            deadline.check()
            said = f"no answer from {self.endpoint} at {step} within {seconds:.1f} s"
            raise ServerTrouble(advised(said, self._hint(step))) from None
        except (OSError, ProtocolError) as error:
            kind = ServerTrouble if step.before_mail else ConnectionLost
            raise kind(advised(f"{self.endpoint} broke off at {step}: {why(error)}", self._hint(step))) from None

    def _hint(self, step: Step) -> str | None:
        return "no greeting" if step is Step.GREETING and self.endpoint.security != "tls" else None

    def _tell(self, commands: list[str], seconds: float) -> None:
        early = self._link.unasked()
        if early is not None:  # RFC 5321 3.8: 421 may come at any time; other replies may not
            if early.code == 421:
                raise trouble(ServerTrouble, f"{self.endpoint} closes the connection", early)
            raise ProtocolError(f"a reply {early.code} that nothing was asked for")
        self._link.send("".join(f"{command}\r\n" for command in commands).encode(), seconds)

    def _expect(self, step: Step, reply: Reply) -> None:
        """:raises ServerTrouble: the server refused."""
        if self._judge(step, reply) is not Verdict.ACCEPTED:
            raise trouble(ServerTrouble, f"{self.endpoint} refused {step}", reply)

    def _judge(self, step: Step, reply: Reply) -> Verdict:
        """:raises ServerTrouble: the reply is about more than this mail."""
        if 300 <= reply.code < 400:
            kind = ServerTrouble if step.before_mail else ConnectionLost
            raise kind(f"{self.endpoint} answered {reply.code} at {step}, which says nothing there")
        verdict = judge(reply, step)
        if verdict is Verdict.TROUBLE:
            raise trouble(ServerTrouble, f"{self.endpoint} takes no mail now, at {step}", reply)
        if verdict is Verdict.LOGIN:
            raise trouble(LoginRefused, f"{self.endpoint} wants another login", reply)
        return verdict

    def _seconds(self, deadline: Deadline) -> float:
        return min(self.endpoint.timeout, deadline.time_left())

    @property
    def _link(self) -> Wire:
        if self._wire is None:
            raise RuntimeError("the conversation is not open; call open() first")
        return self._wire


def close_all(connections: Iterable[Connection]) -> None:
    """Send QUIT on all of them, and wait for the replies together, so several hanging servers take the time of one."""
    until = clock.monotonic() + QUIT_TIMEOUT
    open_ones = [connection for connection in connections if connection._wire is not None]
    try:
        for connection in open_ones:
            connection._say_good_bye(until - clock.monotonic())
        for connection in open_ones:
            if connection._wire is not None:
                connection._hang_up(until - clock.monotonic())
    finally:
        for connection in open_ones:
            connection.abandon()


def _host_name() -> str | None:
    """The host's full name if it is known locally; a look-up could take longer than the mail."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else None
