"""One connection to an SMTP server: connecting, TLS, login, commands and replies."""

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
from pijobs_mail.engine.features import parse_features
from pijobs_mail.engine.hints import with_advice
from pijobs_mail.engine.replies import ProtocolError, Reply, Step, Verdict
from pijobs_mail.engine.reporting import error_with_reply, reason_of, trace_reply
from pijobs_mail.engine.verdicts import judge, retry_after
from pijobs_mail.engine.wire import Wire
from pijobs_mail.errors import ConnectionLost, LoginRefused, ServerTrouble, TlsRefused

#: Seconds to wait for the reply to QUIT after a mail was delivered.
QUIT_TIMEOUT = 5.0


class Connection:
    """One connection to one server. It is not thread-safe."""

    def __init__(self, endpoint: Endpoint, without: frozenset[str] = frozenset()) -> None:
        """:param without: features to ignore, even if the server offers them."""
        self.endpoint = endpoint
        self._without = without
        #: The features in the server's reply to EHLO: keyword to parameters, both in capitals.
        self.features: Mapping[str, str] = MappingProxyType({})
        self._wire: Wire | None = None
        #: Whether a mail was begun and not accepted, so that RSET must precede the next one (RFC 5321 4.1.1.5).
        self._needs_reset = False
        #: How many mails may be sent over it.
        self.max_mails = endpoint.mails or MAILS_PER_CONNECTION
        #: Whether the server reported an id when it accepted a mail on this connection, and at no earlier step.
        self._reports_mail_ids = False

    def open(self, deadline: Deadline = NO_DEADLINE) -> None:
        """Connect; start TLS and log in if the endpoint requires it.

        :raises ServerTrouble: or a subclass, for each failure.
        """
        try:
            with self._span("connect"):
                self._connect_to_any(deadline)
            self._send_ehlo(deadline)
            if self.endpoint.security == "starttls":
                self._start_tls(deadline)
            if self.endpoint.username or self.endpoint.oauth:
                self._login(deadline)
        except BaseException:
            self.abandon()
            raise

    def close(self) -> None:
        """Send QUIT and close. Ignores errors, because the outcome of each mail is already known."""
        close_all([self])

    def _send_quit(self, seconds: float) -> None:
        try:
            self._link.send(b"QUIT\r\n", seconds)
        except OSError:
            self.abandon()

    def _read_quit_reply(self, seconds: float) -> None:
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
        """Whether another mail can be sent: the connection is open, and no unexpected input has arrived."""
        return self._wire is not None and self._wire.quiet()

    def check(self, deadline: Deadline = NO_DEADLINE) -> None:
        """Test an idle connection with RSET, because a firewall on the way may have dropped it.

        :raises ServerTrouble: or :class:`ConnectionLost`, if the connection can't be used any more.
        """
        try:
            self._expect(Step.MAIL, self._ask(Step.MAIL, "RSET", deadline))
        except BaseException:
            self.abandon()
            raise
        self._needs_reset = False

    def _connect_to_any(self, deadline: Deadline) -> None:
        """Connect to the first address of the host that greets (RFC 5321 5.1), all within the endpoint's timeout.
        Each has an equal share of the time until the deadline for its greeting."""
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
                    self.max_mails = MAILS_TO_POSTFIX
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
        """Convert the errors of DNS and TCP to :class:`ServerTrouble`."""
        endpoint = self.endpoint
        try:
            yield
        except TimeoutError:
            deadline.check()
            raise ServerTrouble(f"no connection to {endpoint} within {seconds:.1f} s") from None
        except socket.gaierror as error:
            raise ServerTrouble(f"no address found for the name {endpoint.host!r}: {error.strerror}") from None
        except OSError as error:
            raise ServerTrouble(f"no connection to {endpoint}: {error.strerror or error}") from None

    def _encrypt(self, deadline: Deadline, seconds: float) -> None:
        endpoint = self.endpoint
        try:
            context = tls_context(endpoint.ca_file, verify=endpoint.verify)
        except OSError as error:
            raise TlsRefused(f"the CA file can't be used: {reason_of(error)}") from None
        try:
            with self._span("TLS"):
                self._link.start_tls(context, endpoint.host, seconds)
        except TimeoutError:
            deadline.check()
            raise ServerTrouble(f"no TLS handshake with {endpoint} within {seconds:.1f} s") from None
        except ssl.SSLCertVerificationError as error:
            message = f"the certificate of {endpoint} is not accepted: {error.verify_message}"
            raise TlsRefused(with_advice(message, hints.for_certificate(endpoint, error))) from None
        except (OSError, ProtocolError) as error:
            message = f"no TLS connection to {endpoint}: {reason_of(error)}"
            raise TlsRefused(with_advice(message, hints.for_handshake(endpoint, error))) from None

    def _send_ehlo(self, deadline: Deadline) -> None:
        name, features = self._own_name(), {}
        reply = self._ask(Step.EHLO, f"EHLO {name}", deadline)
        if reply.accepted:
            features = parse_features(reply, self._without)
        elif not reply.temporary:  # RFC 5321 3.2: an old server may support only HELO
            reply = self._ask(Step.EHLO, f"HELO {name}", deadline)
        self._expect(Step.EHLO, reply)
        self.features = MappingProxyType(features)

    def _own_name(self) -> str:
        return self.endpoint.ehlo or _host_name() or self._link.own_literal

    def _start_tls(self, deadline: Deadline) -> None:
        if "STARTTLS" not in self.features:
            raise TlsRefused(f"the definition requires STARTTLS, but {self.endpoint} does not offer it")
        reply = self._ask(Step.STARTTLS, "STARTTLS", deadline)
        if not reply.accepted:
            raise TlsRefused(f"{self.endpoint} refused STARTTLS: {reply}", reply=reply, retry_after=retry_after(reply))
        self._encrypt(deadline, self._seconds(deadline))
        self._send_ehlo(deadline)  # RFC 3207 4.2: discard the features that were offered without TLS

    def _login(self, deadline: Deadline) -> None:
        endpoint = self.endpoint
        if not (self._link.encrypted or endpoint.login_without_tls or self._link.loopback):
            raise LoginRefused(f"login and password are not sent to {endpoint} in clear; use TLS")
        grant, secret = endpoint.oauth, endpoint.password
        if grant is not None:
            secret = oauth.access_token(grant, self._seconds(deadline))
        offered = self.features.get("AUTH", "").split()

        def ask(command: str) -> Reply:
            return self._ask(Step.AUTH, command, deadline)

        try:
            login = auth.log_in(offered, endpoint.username, secret, ask, token=grant is not None)
        except auth.ServerNotVerified as error:
            raise LoginRefused(f"{endpoint}: {error}") from None
        if login is None:
            raise LoginRefused(f"{endpoint}: {auth.no_common_mechanism(offered)}")
        _mechanism, reply = login
        if grant is not None and not reply.accepted:
            oauth.forget(grant)
        self._expect(Step.AUTH, reply)

    def _ask(self, step: Step, command: str | None, deadline: Deadline) -> Reply:
        """Send a command and return its reply. Without a command, return the reply to an earlier one.

        :param command: one command, or several separated by CRLF; then the reply is that to the first one.
        :raises ServerTrouble: the time is over, or the connection broke; from MAIL on, :class:`ConnectionLost`.
        """
        if command is None:
            return self._answer(step, None, deadline)
        with self._span(str(step)) as span:
            reply = self._answer(step, command, deadline)
            trace_reply(span, reply)
            return reply

    def _span(self, step: str) -> AbstractContextManager[Any]:
        return traces.span(
            f"smtp {step}", "CLIENT", server__address=self.endpoint.host, server__port=self.endpoint.port
        )

    def _answer(self, step: Step, command: str | None, deadline: Deadline) -> Reply:
        seconds = self._seconds(deadline)
        advice = "no greeting" if step is Step.GREETING and self.endpoint.security != "tls" else None
        try:
            if command is not None:
                self._send_commands(command.split("\r\n"), seconds)
            return self._link.reply(seconds)
        except TimeoutError:
            deadline.check()
            message = f"no reply from {self.endpoint} at {step} within {seconds:.1f} s"
            raise ServerTrouble(with_advice(message, advice)) from None
        except (OSError, ProtocolError) as error:
            kind = ServerTrouble if step.before_mail else ConnectionLost
            message = f"the connection to {self.endpoint} broke at {step}: {reason_of(error)}"
            raise kind(with_advice(message, advice)) from None

    def _send_commands(self, commands: list[str], seconds: float) -> None:
        early = self._link.unsolicited()
        if early is not None:  # RFC 5321 3.8: only 421 may come without a command
            if early.code == 421:
                raise error_with_reply(ServerTrouble, f"{self.endpoint} closes the connection", early)
            raise ProtocolError(f"expected no reply before the next command, found {early.code}")
        self._link.send("".join(f"{command}\r\n" for command in commands).encode(), seconds)

    def _expect(self, step: Step, reply: Reply) -> None:
        """:raises ServerTrouble: the reply is not positive."""
        if self._judge(step, reply) is not Verdict.ACCEPTED:
            raise error_with_reply(ServerTrouble, f"{self.endpoint} refused {step}", reply)

    def _judge(self, step: Step, reply: Reply) -> Verdict:
        """The meaning of a reply for this mail.

        :raises ServerTrouble: the reply is about all mails. :raises ConnectionLost: it has no meaning at this step.
        """
        if 300 <= reply.code < 400:
            kind = ServerTrouble if step.before_mail else ConnectionLost
            raise kind(f"{self.endpoint} replied {reply.code} at {step}, where it has no meaning")
        verdict = judge(reply, step)
        if verdict is Verdict.TROUBLE:
            raise error_with_reply(ServerTrouble, f"{self.endpoint} accepts no mail now, at {step}", reply)
        if verdict is Verdict.LOGIN:
            raise error_with_reply(LoginRefused, f"{self.endpoint} requires another login", reply)
        return verdict

    def _seconds(self, deadline: Deadline) -> float:
        return min(self.endpoint.timeout, deadline.time_left())

    @property
    def _link(self) -> Wire:
        if self._wire is None:
            raise RuntimeError("the connection is not open; call open() first")
        return self._wire


def close_all(connections: Iterable[Connection]) -> None:
    """Send QUIT on all connections, then wait for the replies, at most :data:`QUIT_TIMEOUT` seconds for all of them."""
    until = clock.monotonic() + QUIT_TIMEOUT
    open_ones = [connection for connection in connections if connection._wire is not None]
    try:
        for connection in open_ones:
            connection._send_quit(until - clock.monotonic())
        for connection in open_ones:
            if connection._wire is not None:
                connection._read_quit_reply(until - clock.monotonic())
    finally:
        for connection in open_ones:
            connection.abandon()


def _host_name() -> str | None:
    """The host's full name if it is known without DNS, because a query could take longer than the mail."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else None
