"""The engine: one SMTP conversation (RFC 5321), and what became of each recipient.

It stands alone and knows nothing of jobs. Time comes in as a :class:`Deadline`. A :class:`Conversation` opens once and
can send several mails, one after another.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from pijobs_mail import auth, oauth
from pijobs_mail.delivery import NO_DEADLINE, Deadline, Delivery, Endpoint, Mail, Outcome
from pijobs_mail.errors import ConnectionLost, FalseFeature, LoginRefused, MaybeSent, ServerTrouble, TlsRefused
from pijobs_mail.replies import ProtocolError, Reply, Step, Verdict, judge, queue_id, retry_after
from pijobs_mail.wire import Wire, lines, on_the_wire, verifying_context

#: Seconds to wait for the reply to the end of the data, at least: whoever gives up here sends the mail twice
#: (RFC 5321 4.5.3.2.6, which says ten minutes).
FINAL_TIMEOUT = 30.0
#: Commands in one flight: as many replies surely fit into the buffers, so that nobody waits for the other to read.
FLIGHT = 100
#: Bytes of a content that leaves before the server agreed to its size.
WHOLE = 256 * 1024
_NOT_UNDERSTOOD = (500, 501, 502, 503, 504)
# No blank, bracket or control character: nothing that begins another parameter or command. Empty: a bounce.
_ADDRESS = re.compile(r"[!-;=?-~]*")
# A server that offers CHUNKING and does not know it reads the text as commands; without this one they send nothing.
_COMMAND = re.compile(rb"^[ \t]*rcpt[ \t]+to", re.IGNORECASE | re.MULTILINE)
#: Seconds that a mail which is delivered already may wait for the good-bye.
QUIT_TIMEOUT = 5.0


def deliver(endpoint: Endpoint, mail: Mail, deadline: Deadline = NO_DEADLINE) -> Delivery:
    """Send one mail over a connection of its own.

    :raises ServerTrouble: no mail can be sent at present. Nothing was sent.
    :raises ConnectionLost: this mail broke the connection, or something else did. Nothing was sent.
    :raises MaybeSent: the whole mail left, and the server's word on it did not come.
    """
    conversation = Conversation(endpoint)
    try:
        conversation.open(deadline)
        return conversation.send(mail, deadline)
    finally:
        conversation.close()


class Conversation:
    """One connection to one server. Not for several threads at once."""

    def __init__(self, endpoint: Endpoint, without: frozenset[str] = frozenset()) -> None:
        """:param without: features not to believe in, whatever the server offers."""
        self.endpoint = endpoint
        self._without = without
        #: What the server offers in its answer to EHLO: keyword to parameters, both in capitals.
        self.features: Mapping[str, str] = MappingProxyType({})
        self._wire: Wire | None = None
        self._unfinished = False
        #: Whether the server took a chunk on this connection, and told the id of the mail.
        self._names_mails = False

    def open(self, deadline: Deadline = NO_DEADLINE) -> None:
        """Connect, greet, encrypt and log in, as the endpoint says.

        :raises ServerTrouble: or one of its kinds, for everything that can go wrong.
        """
        try:
            self._connect(deadline)
            self._expect(Step.GREETING, self._ask(Step.GREETING, None, deadline))
            self._hello(deadline)
            if self.endpoint.security == "starttls":
                self._start_tls(deadline)
            if self.endpoint.username or self.endpoint.oauth:
                self._login(deadline)
        except BaseException:
            self.abandon()
            raise

    def send(self, mail: Mail, deadline: Deadline = NO_DEADLINE) -> Delivery:
        """One mail transaction (RFC 5321 3.3). Raises as :func:`deliver`."""
        if not all(_ADDRESS.fullmatch(address) for address in (mail.sender, *mail.recipients)):
            raise ValueError("expected checked addresses, found one that is more or less than an address")
        try:
            return self._transaction(mail, deadline)
        except BaseException:
            # Nobody knows where the server stands now; without the final dot it forgets the mail (RFC 5321 4.1.1.4).
            self.abandon()
            raise

    def close(self) -> None:
        """Say good-bye. Whatever the server makes of that, a mail it took is taken."""
        if self._wire is None:
            return
        try:
            seconds = min(self.endpoint.timeout, QUIT_TIMEOUT)
            self._wire.send(b"QUIT\r\n", seconds)
            self._wire.reply(seconds)
        except (OSError, ProtocolError):
            pass
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without a word."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _connect(self, deadline: Deadline) -> None:
        endpoint, seconds = self.endpoint, self._seconds(deadline)
        started = time.monotonic()
        try:
            self._wire = Wire.connect(endpoint.host, endpoint.port, seconds)
        except TimeoutError:
            deadline.check()
            raise ServerTrouble(f"no connection to {endpoint} within {seconds:.1f} s") from None
        except socket.gaierror as error:
            raise ServerTrouble(f"the name {endpoint.host!r} has no address: {error.strerror}") from None
        except OSError as error:
            raise ServerTrouble(f"no connection to {endpoint}: {error.strerror or error}") from None
        if endpoint.security == "tls":
            self._encrypt(deadline, seconds - (time.monotonic() - started))

    def _encrypt(self, deadline: Deadline, seconds: float) -> None:
        endpoint = self.endpoint
        try:
            context = verifying_context(endpoint.ca_file)
        except OSError as error:
            raise TlsRefused(f"the CA file can't be used: {_why(error)}") from None
        try:
            self._link.start_tls(context, endpoint.host, seconds)
        except TimeoutError:
            deadline.check()
            raise ServerTrouble(f"no TLS handshake with {endpoint} within {seconds:.1f} s") from None
        except ssl.SSLCertVerificationError as error:
            raise TlsRefused(f"the certificate of {endpoint} is not accepted: {error.verify_message}") from None
        except (OSError, ProtocolError) as error:
            raise TlsRefused(f"no TLS connection to {endpoint}: {_why(error)}") from None

    def _hello(self, deadline: Deadline) -> None:
        name = self.endpoint.ehlo or _host_name() or self._link.own_literal
        reply = self._ask(Step.EHLO, f"EHLO {name}", deadline)
        if not reply.accepted and not reply.temporary:  # RFC 5321 3.2: an old server knows HELO only
            reply = self._ask(Step.EHLO, f"HELO {name}", deadline)
            self._expect(Step.EHLO, reply)
            self.features = MappingProxyType({})
            return
        self._expect(Step.EHLO, reply)
        offers = (re.split(r"[ =]", line.strip().upper(), maxsplit=1) for line in reply.lines[1:])
        self.features = MappingProxyType(
            {keyword: "".join(rest) for keyword, *rest in offers if keyword not in self._without}
        )

    def _start_tls(self, deadline: Deadline) -> None:
        if "STARTTLS" not in self.features:
            raise TlsRefused(f"STARTTLS is asked for, but {self.endpoint} does not offer it; no mail without it")
        reply = self._ask(Step.STARTTLS, "STARTTLS", deadline)
        if not reply.accepted:
            raise TlsRefused(f"{self.endpoint} refused STARTTLS: {reply}", reply=reply, retry_after=retry_after(reply))
        self._encrypt(deadline, self._seconds(deadline))
        self._hello(deadline)  # RFC 3207 4.2: forget what was offered in clear

    def _login(self, deadline: Deadline) -> None:
        endpoint = self.endpoint
        if not (self._link.encrypted or endpoint.login_without_tls or self._link.loopback):
            raise LoginRefused(f"login and password go to {endpoint} in clear only where that is allowed; use TLS")
        offered = self.features.get("AUTH", "").split()
        grant, secret = endpoint.oauth, endpoint.password
        if grant is not None:
            secret = oauth.access_token(grant, self._seconds(deadline))
        chosen = auth.choose(offered, endpoint.username, secret, token=grant is not None)
        if chosen is None:
            raise LoginRefused(f"{endpoint} offers no login that we know, but {' '.join(offered) or 'none'}")
        mechanism, initial, answers = chosen
        sent = [] if initial is None else [auth.encode(initial)]
        reply = self._ask(Step.AUTH, " ".join(["AUTH", mechanism, *sent]), deadline)
        for answer in answers:
            if reply.code != 334:
                break
            sent.append(auth.encode(answer(auth.decode(reply.text))))
            reply = self._ask(Step.AUTH, sent[-1], deadline)
        if grant is not None and not reply.accepted:
            oauth.forget(grant)
        self._expect(Step.AUTH, reply.without(*sent, secret, endpoint.username))

    @property
    def usable(self) -> bool:
        """Whether another mail can follow. What came in unasked leaves a doubt, and so does a closed connection."""
        return self._wire is not None and self._wire.quiet()

    def check(self, deadline: Deadline = NO_DEADLINE) -> None:
        """One round trip, for a connection that was idle: something in between may have forgotten it.

        :raises ServerTrouble: or :class:`ConnectionLost`, when it is of no more use.
        """
        try:
            self._expect(Step.MAIL, self._ask(Step.MAIL, "RSET", deadline))
        except BaseException:
            self.abandon()
            raise
        self._unfinished = False

    def _transaction(self, mail: Mail, deadline: Deadline) -> Delivery:
        chunked = "CHUNKING" in self.features and not _COMMAND.search(mail.content)
        content = lines(mail.content) if chunked else on_the_wire(mail.content)
        commands = self._commands(mail, len(content), chunked)
        if chunked and self._names_mails and "PIPELINING" in self.features and len(content) <= WHOLE:
            return self._whole(mail, commands, content, deadline)
        replies = self._replies(commands, deadline)
        if self._unfinished:
            self._expect(Step.MAIL, next(replies))
        self._unfinished = True
        reply = next(replies)
        verdict = self._judge(Step.MAIL, reply)
        outcomes = {recipient: Outcome(verdict, reply) for recipient in mail.recipients}
        if verdict is Verdict.ACCEPTED:
            for recipient in mail.recipients:
                reply = next(replies)
                self._doubt("PIPELINING", reply)
                outcomes[recipient] = Outcome(self._judge(Step.RCPT, reply), reply)
        taken = [who for who, outcome in outcomes.items() if outcome.verdict is Verdict.ACCEPTED]
        if not taken:
            self._skip(replies, deadline)
            return Delivery(outcomes, reply)
        ending = self._chunk(content, taken, deadline) if chunked else self._content(content, taken, replies, deadline)
        return Delivery({**outcomes, **ending.outcomes}, ending.reply, ending.queue_id)

    def _commands(self, mail: Mail, size: int, chunked: bool) -> list[tuple[Step, str]]:
        said = f" SIZE={size}" if "SIZE" in self.features else ""  # RFC 1870: too big is said before it is sent
        if not mail.content.isascii() and "8BITMIME" in self.features:
            said += " BODY=8BITMIME"  # RFC 6152 3
        commands = [(Step.MAIL, f"MAIL FROM:<{mail.sender}>{said}")]
        commands += [(Step.RCPT, f"RCPT TO:<{recipient}>") for recipient in mail.recipients]
        if self._unfinished:
            commands.insert(0, (Step.MAIL, "RSET"))
        return commands if chunked else [*commands, (Step.DATA, "DATA")]

    def _replies(self, commands: list[tuple[Step, str]], deadline: Deadline) -> Iterator[Reply]:
        """The replies to commands that leave in one flight where the server allows it (RFC 2920), else in turn."""
        flight = FLIGHT if "PIPELINING" in self.features else 1
        for start in range(0, len(commands), flight):
            flying = commands[start : start + flight]
            if flying[-1][0] is Step.DATA:
                deadline.check()
            yield self._ask(flying[0][0], "\r\n".join(command for _, command in flying), deadline)
            for step, _ in flying[1:]:
                yield self._ask(step, None, deadline)

    def _skip(self, replies: Iterator[Reply], deadline: Deadline) -> None:
        """Nobody takes the mail. What left already is answered, and a server that waits for a text is given none."""
        if "PIPELINING" not in self.features:
            return
        for reply in replies:
            if reply.code == 421:
                self.abandon()
                return
            if reply.code == 354:  # RFC 2920 3.1
                self._ask(Step.DATA, ".", deadline)

    def _content(self, content: bytes, recipients: list[str], replies: Iterator[Reply], deadline: Deadline) -> Delivery:
        reply = next(replies)
        if reply.code != 354:
            self._doubt("PIPELINING", reply)
            verdict = self._judge(Step.DATA, reply)
            if verdict is Verdict.ACCEPTED:
                raise ConnectionLost(f"expected 354 from {self.endpoint} at DATA, found {reply.code}")
            return _all(recipients, verdict, reply)
        # The final dot is the last that is sent: if sending fails, it did not leave.
        return self._end(content, recipients, deadline)

    def _chunk(self, content: bytes, recipients: list[str], deadline: Deadline) -> Delivery:
        """The whole content as one chunk (RFC 3030 2). Less than its length is no mail."""
        ending = self._end(b"BDAT %d LAST\r\n" % len(content) + content, recipients, deadline)
        if ending.reply.code in _NOT_UNDERSTOOD:
            # The text was read as commands: nobody knows what the server makes of the rest of it.
            raise FalseFeature(f"{self.endpoint} offers CHUNKING and refuses it: {ending.reply}", keyword="CHUNKING")
        self._names_mails = ending.queue_id is not None
        return ending

    def _whole(self, mail: Mail, commands: list[tuple[Step, str]], content: bytes, deadline: Deadline) -> Delivery:
        """Envelope and content in one flight (RFC 2920, RFC 3030 4.2), so any doubt is one about a mail that left.

        Replies carry no number, so one too many would be taken for the next. The one to the content tells the id of
        the mail, and no other does: that keeps them apart.
        """
        deadline.check()
        if not self._link.quiet():
            raise ConnectionLost(f"{self.endpoint} said more than it was asked for, or hung up")
        envelope = "".join(f"{command}\r\n" for _, command in commands).encode("ascii")
        try:
            self._link.send(envelope + b"BDAT %d LAST\r\n" % len(content) + content, self.endpoint.timeout)
        except OSError as error:
            raise ConnectionLost(f"{self.endpoint} broke off in the middle of the mail: {_why(error)}") from None
        replies: list[Reply] = []
        for step in [*(step for step, _ in commands), Step.END]:
            replies.append(self._final_reply())
            if replies[-1].code == 421:  # nothing behind it was read
                self._judge(step, replies[-1])
        *before, last = replies
        begun = before[: len(before) - len(mail.recipients)]
        taken = [reply for reply in before[len(begun) :] if reply.accepted]
        begun_well = all(reply.accepted for reply in begun)
        named = [queue_id(reply) is not None for reply in replies]
        fits = begun_well and taken and sum(named) == 1 and named[-1] if last.accepted else not any(named)
        if not fits or (taken and last.code in _NOT_UNDERSTOOD):
            raise MaybeSent(f"the replies of {self.endpoint} to the mail it was given do not fit together: {last}")
        self._unfinished = not last.accepted
        return self._sum_up(mail, begun, before[len(begun) :], last)

    def _sum_up(self, mail: Mail, begun: list[Reply], recipients: list[Reply], last: Reply) -> Delivery:
        for reply in begun:
            verdict = self._judge(Step.MAIL, reply)
            if verdict is not Verdict.ACCEPTED:
                return _all(mail.recipients, verdict, reply)
        outcomes = {}
        for who, reply in zip(mail.recipients, recipients, strict=True):
            decided, step = (last, Step.END) if reply.accepted else (reply, Step.RCPT)
            outcomes[who] = Outcome(self._judge(step, decided), decided)
        return Delivery(outcomes, last, queue_id(last) if last.accepted else None)

    def _end(self, content: bytes, recipients: list[str], deadline: Deadline) -> Delivery:
        deadline.check()
        if not self._link.quiet():
            raise ConnectionLost(f"{self.endpoint} said more than it was asked for, or hung up")
        try:
            self._link.send(content, self.endpoint.timeout)
        except OSError as error:
            raise ConnectionLost(f"{self.endpoint} broke off in the middle of the mail: {_why(error)}") from None
        reply = self._final_reply()
        self._unfinished = not reply.accepted
        verdict = self._judge(Step.END, reply)
        return _all(recipients, verdict, reply, queue_id(reply) if verdict is Verdict.ACCEPTED else None)

    def _doubt(self, keyword: str, reply: Reply) -> None:
        """:raises FalseFeature: when a command is not understood in a flight, after those before it were."""
        if keyword in self.features and reply.code in _NOT_UNDERSTOOD:
            raise FalseFeature(f"{self.endpoint} offers {keyword} and refuses it: {reply}", keyword=keyword)

    def _final_reply(self) -> Reply:
        """From here on the deadline does not count: the effect may have happened."""
        try:
            reply = self._link.reply(max(self.endpoint.timeout, FINAL_TIMEOUT))
        except (OSError, ProtocolError) as error:
            raise MaybeSent(f"no word from {self.endpoint} on the mail it was given: {_why(error)}") from None
        if 300 <= reply.code < 400:
            raise MaybeSent(f"no word from {self.endpoint} on the mail it was given, but {reply.code}")
        return reply

    def _ask(self, step: Step, command: str | None, deadline: Deadline) -> Reply:
        """Send a command and wait for its reply."""
        seconds = self._seconds(deadline)
        try:
            if command is not None:
                self._tell(command.split("\r\n"), seconds)
            return self._link.reply(seconds)
        except TimeoutError:
            deadline.check()
            raise ServerTrouble(f"no answer from {self.endpoint} at {step} within {seconds:.1f} s") from None
        except (OSError, ProtocolError) as error:
            kind = ServerTrouble if step.before_mail else ConnectionLost
            raise kind(f"{self.endpoint} broke off at {step}: {_why(error)}") from None

    def _tell(self, commands: list[str], seconds: float) -> None:
        early = self._link.unasked()
        if early is not None:  # RFC 5321 3.8: 421 may come at any time; nothing else may
            if early.code == 421:
                raise _trouble(ServerTrouble, f"{self.endpoint} closes the connection", early)
            raise ProtocolError(f"a reply {early.code} that nothing was asked for")
        self._link.send("".join(f"{command}\r\n" for command in commands).encode("ascii"), seconds)

    def _expect(self, step: Step, reply: Reply) -> None:
        """:raises ServerTrouble: unless the server agrees."""
        if self._judge(step, reply) is not Verdict.ACCEPTED:
            raise _trouble(ServerTrouble, f"{self.endpoint} refused {step}", reply)

    def _judge(self, step: Step, reply: Reply) -> Verdict:
        """:raises ServerTrouble: when the reply is about more than this mail."""
        if 300 <= reply.code < 400:
            kind = ServerTrouble if step.before_mail else ConnectionLost
            raise kind(f"{self.endpoint} answered {reply.code} at {step}, which says nothing there")
        verdict = judge(reply, step)
        if verdict is Verdict.TROUBLE:
            raise _trouble(ServerTrouble, f"{self.endpoint} takes no mail now, at {step}", reply)
        if verdict is Verdict.LOGIN:
            raise _trouble(LoginRefused, f"{self.endpoint} wants another login", reply)
        return verdict

    def _seconds(self, deadline: Deadline) -> float:
        return min(self.endpoint.timeout, deadline.time_left())

    @property
    def _link(self) -> Wire:
        if self._wire is None:
            raise RuntimeError("the conversation is not open; call open() first")
        return self._wire


def _all(recipients: tuple[str, ...] | list[str], verdict: Verdict, reply: Reply, id: str | None = None) -> Delivery:
    return Delivery({recipient: Outcome(verdict, reply) for recipient in recipients}, reply, id)


def _trouble(kind: type[ServerTrouble], message: str, reply: Reply) -> ServerTrouble:
    return kind(f"{message}: {reply}", reply=reply, retry_after=retry_after(reply))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


def _host_name() -> str | None:
    """The host's full name if it knows one by itself; a look-up could take longer than the mail."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else None
