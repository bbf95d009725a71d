"""The engine: mail transactions (RFC 5321), and the outcome for each recipient.

It does not depend on jobs. The caller passes a :class:`Deadline`. A :class:`Conversation` opens once and
can send several mails, one after another, each in as few round trips as the server allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from pijobs.base import clock
from pijobs_mail.compose.content import could_be_commands, lines, on_the_wire, seven_bit
from pijobs_mail.engine.content import ContentConnection
from pijobs_mail.engine.delivery import NO_DEADLINE, Deadline, Delivery, Endpoint, Mail, Outcome
from pijobs_mail.engine.replies import ProtocolError, Reply, Step, Verdict
from pijobs_mail.engine.reporting import trace_reply
from pijobs_mail.engine.verdicts import NOT_UNDERSTOOD, mail_id
from pijobs_mail.errors import AsciiOnly, ConnectionLost, FalseFeature, MaybeSent, MessageError

#: The most commands sent together: their replies certainly fit into the buffers, so there is no deadlock.
FLIGHT = 100
#: The most bytes of a content that is sent before the server accepted its size.
WHOLE = 256 * 1024
# An address must not begin another parameter or command: no control characters; blanks and brackets only in quotes. An
# empty address is a bounce.
_ADDRESS = re.compile(r"""(?:[!#-;=?-\[\]-~\u00a1-\U0010ffff]|"(?:[^"\\\0-\x1f\x7f-\x9f]|\\[^\0-\x1f\x7f-\x9f])*")*""")


def deliver(endpoint: Endpoint, mail: Mail, deadline: Deadline = NO_DEADLINE) -> Delivery:
    """Send one mail over a new connection.

    :raises ServerTrouble: no mail can be sent now. Nothing was sent.
    :raises ConnectionLost: the connection was lost, maybe because of this mail. Nothing was sent.
    :raises MaybeSent: the complete mail was sent, but the server did not reply.
    :raises MessageError: the server accepts 7 bits only, and the mail can't be converted. Nothing was sent.
    :raises AsciiOnly: the server accepts only ASCII addresses, and the mail has another one. Nothing was sent.
    """
    conversation = Conversation(endpoint)
    try:
        conversation.open(deadline)
        return conversation.send(mail, deadline)
    finally:
        conversation.close()


class Conversation(ContentConnection):
    """A connection for sending mails."""

    def send(self, mail: Mail, deadline: Deadline = NO_DEADLINE) -> Delivery:
        """One mail transaction (RFC 5321 3.3). Raises as :func:`deliver`."""
        if not all(_ADDRESS.fullmatch(address) for address in (mail.sender, *mail.recipients)):
            raise ValueError("expected checked addresses, found one that is more or less than an address")
        try:
            return self._transaction(mail, deadline)
        except BaseException:
            # The state of the server is unknown. Without the final dot it discards the mail (RFC 5321 4.1.1.4).
            self.abandon()
            raise

    def _transaction(self, mail: Mail, deadline: Deadline) -> Delivery:
        if mail.utf8 and "SMTPUTF8" not in self.features:
            raise AsciiOnly
        if "8BITMIME" not in self.features and not mail.content.isascii():
            mail = self._in_seven_bits(mail)
        if self._may_go_whole(mail):
            return self._whole(mail, deadline)
        content = on_the_wire(mail.content)
        replies = self._begin(mail, len(content), deadline)
        self._check_parameters(mail, reply := next(replies))
        # A nearly full disk may have no room for a big mail, but room for others.
        verdict = Verdict.DEFERRED if reply.code == 452 and len(content) > WHOLE else self._judge(Step.MAIL, reply)
        refused = () if verdict is Verdict.ACCEPTED else mail.recipients
        outcomes = dict.fromkeys(refused, Outcome(verdict, reply, Step.MAIL))
        said = [reply]
        for recipient in () if refused else mail.recipients:
            said.append(reply := next(replies))
            if reply.code == 421:
                return self._cut_short(mail, outcomes, reply, Step.RCPT)
            self._check_feature("PIPELINING", reply)
            outcomes[recipient] = Outcome(self._judge(Step.RCPT, reply), reply, Step.RCPT)
        taken = [who for who, outcome in outcomes.items() if outcome.verdict is Verdict.ACCEPTED]
        if not taken:
            self._skip(replies, deadline)
            return Delivery(outcomes, reply)
        reply = next(replies)
        if reply.code == 421:
            return self._cut_short(mail, outcomes, reply, Step.DATA)
        ending = self._content(content, taken, reply, deadline)
        self._reports_mail_ids |= ending.queue_id is not None and not any(map(mail_id, said))
        return Delivery({**outcomes, **ending.outcomes}, ending.reply, ending.queue_id)

    def _begin(self, mail: Mail, size: int, deadline: Deadline) -> Iterator[Reply]:
        """The replies to MAIL and what follows it; what the last mail left is done with."""
        replies = self._replies([*self._commands(mail, size), (Step.DATA, "DATA")], deadline)
        if self._needs_reset:
            self._expect(Step.MAIL, next(replies))
        self._needs_reset = True
        return replies

    def _in_seven_bits(self, mail: Mail) -> Mail:
        try:
            return replace(mail, content=seven_bit(mail.content))
        except ValueError as error:
            raise MessageError(f"{self.endpoint} takes 7 bits only: {error}") from None

    def _cut_short(self, mail: Mail, outcomes: Mapping[str, Outcome], reply: Reply, step: Step) -> Delivery:
        """The server replied 421 before the end of the mail, so it accepted nothing. If it refused recipients in the
        same mail, these are the cause ("too many errors"): they are refused, and the others may be tried again.

        :raises ServerTrouble: it refused none, or it says that it closes.
        """
        decided = {who: outcome for who, outcome in outcomes.items() if outcome.verdict is not Verdict.ACCEPTED}
        if not decided or reply.enhanced == "4.3.2":
            self._judge(step, reply)
        self.abandon()
        rest = Outcome(Verdict.DEFERRED, reply, step)
        return Delivery({who: decided.get(who, rest) for who in mail.recipients}, reply)

    def _may_go_whole(self, mail: Mail) -> bool:
        """Whether envelope and content may be sent together, see :meth:`_whole`."""
        at_once = {"PIPELINING", "CHUNKING"} <= self.features.keys() and self._reports_mail_ids
        return at_once and not mail.careful and len(mail.content) <= WHOLE and not could_be_commands(mail.content)

    def _commands(self, mail: Mail, size: int) -> list[tuple[Step, str]]:
        said = f" SIZE={size}" if "SIZE" in self.features else ""  # RFC 1870: it can be refused early
        if not mail.content.isascii():
            said += " BODY=8BITMIME"  # RFC 6152 3
        if mail.utf8:
            said += " SMTPUTF8"  # RFC 6531 3.4
        commands = [(Step.MAIL, f"MAIL FROM:<{mail.sender}>{said}")]
        commands += [(Step.RCPT, f"RCPT TO:<{recipient}>") for recipient in mail.recipients]
        if self._needs_reset:
            commands.insert(0, (Step.MAIL, "RSET"))
        return commands

    def _replies(self, commands: list[tuple[Step, str]], deadline: Deadline) -> Iterator[Reply]:
        """The replies to commands, sent together if the server allows it (RFC 2920), else in turn."""
        flight = FLIGHT if "PIPELINING" in self.features else 1
        for start in range(0, len(commands), flight):
            flying = commands[start : start + flight]
            if flying[-1][0] is Step.DATA:
                deadline.check()
            yield self._ask(flying[0][0], "\r\n".join(command for _, command in flying), deadline)
            for step, _ in flying[1:]:
                yield self._ask(step, None, deadline)

    def _skip(self, replies: Iterator[Reply], deadline: Deadline) -> None:
        """All recipients are refused. Read the outstanding replies. If the server waits for a text, send none."""
        if "PIPELINING" not in self.features:
            return
        for reply in replies:
            if reply.code == 421:
                self.abandon()
                return
            if reply.code == 354:  # RFC 2920 3.1
                self._ask(Step.DATA, ".", deadline)

    def _content(self, content: bytes, recipients: list[str], reply: Reply, deadline: Deadline) -> Delivery:
        if reply.code != 354:
            self._check_feature("PIPELINING", reply)
            verdict = self._judge(Step.DATA, reply)
            if verdict is Verdict.ACCEPTED:
                raise ConnectionLost(f"expected 354 from {self.endpoint} at DATA, found {reply.code}")
            return _all(recipients, verdict, reply, Step.DATA)
        # The final dot is sent last: if sending fails, the server did not get it.
        return self._end(content, recipients, deadline)

    def _whole(self, mail: Mail, deadline: Deadline) -> Delivery:
        """Send envelope and content together, the content as one chunk (RFC 2920, RFC 3030 4.2). So the outcome is only
        unknown for a mail that was completely sent.

        Replies have no number, so one too many would be taken for the next one. Only the reply to the content contains
        the id of the mail, which distinguishes it. A server that is not known to report ids gets DATA, whose 354 does
        the same; so does the first mail of a connection.
        """
        content = lines(mail.content)
        commands = self._commands(mail, len(content))
        self._check_before_effect(deadline)
        with self._span("mail"):
            return self._in_one_flight(mail, commands, content, deadline)

    def _in_one_flight(
        self, mail: Mail, commands: list[tuple[Step, str]], content: bytes, deadline: Deadline
    ) -> Delivery:
        envelope = "".join(f"{command}\r\n" for _, command in commands).encode()
        self._send_content(envelope + b"BDAT %d LAST\r\n" % len(content) + content)
        until = clock.monotonic() + self._final_timeout(deadline)
        replies: list[Reply] = []
        start = len(commands) - len(mail.recipients)
        for _ in [*commands, Step.END]:
            replies.append(self._final_reply(until - clock.monotonic()))
            if replies[-1].code == 421 and len(replies) <= len(commands):  # nothing after it was read
                return self._hung_up(mail, replies[start:-1], replies[-1])
        self._needs_reset = not replies[-1].accepted
        if not _told_apart(replies[:start], replies[start:-1], replies[-1]):
            replies = self._settle(replies)
        begun, recipients, last = replies[:start], replies[start:-1], replies[-1]
        self._check_parameters(mail, begun[-1])
        if last.code == 421:
            self.abandon()
        return self._sum_up(mail, begun, recipients, last)

    def _hung_up(self, mail: Mail, recipients: list[Reply], last: Reply) -> Delivery:
        """The server replied 421 after the replies to some recipients, or before."""
        outcomes = {
            who: Outcome(self._judge(Step.RCPT, reply), reply, Step.RCPT)
            for who, reply in zip(mail.recipients, recipients, strict=False)
        }
        return self._cut_short(mail, outcomes, last, Step.RCPT)

    def _settle(self, replies: list[Reply]) -> list[Reply]:
        """After a superfluous reply, the reply to another command may look like the reply to the mail. The answer to
        EHLO can't be mistaken, and the reply right before it is the reply to the mail.

        :returns: the replies to envelope and content.
        :raises FalseFeature: the server took the text for unknown commands. It did not accept the mail.
        :raises ConnectionLost: the mail was refused, and it is unknown by which of the replies.
        :raises MaybeSent: the reply to the mail can't be found.
        """
        count, last = len(replies), replies[-1]
        try:
            self._link.send(f"EHLO {self._own_name()}\r\n".encode("ascii"), self.endpoint.timeout)
            while not _is_hello(reply := self._link.reply(self.endpoint.timeout)):
                if last.code in NOT_UNDERSTOOD and reply.code in NOT_UNDERSTOOD:
                    raise FalseFeature(f"{self.endpoint} offers CHUNKING and refuses it: {last}", keyword="CHUNKING")
                replies.append(reply)
        except (OSError, ProtocolError):  # a server that refuses a mail may hang up then
            self.abandon()
            if any(reply.accepted for reply in replies[count - 1 :]):
                raise MaybeSent(f"the number of replies of {self.endpoint} to the mail is wrong: {last}") from None
            return replies[:count]
        self._needs_reset = False
        if (extra := len(replies) - count) == 0:
            return replies
        self.abandon()
        if not replies[-1].accepted:
            raise ConnectionLost(f"{self.endpoint} sent an unexpected reply, and refused the mail: {replies[-1]}")
        if not all(reply.accepted for reply in replies):
            raise MaybeSent(f"{self.endpoint} took the mail, and nobody knows for whom: {replies[-1]}")
        return replies[extra:]

    def _sum_up(self, mail: Mail, begun: list[Reply], recipients: list[Reply], last: Reply) -> Delivery:
        for reply in begun:
            verdict = self._judge(Step.MAIL, reply)
            if verdict is not Verdict.ACCEPTED:
                return _all(mail.recipients, verdict, reply, Step.MAIL)
        outcomes = {}
        for who, reply in zip(mail.recipients, recipients, strict=True):
            decided, step = (last, Step.END) if reply.accepted else (reply, Step.RCPT)
            outcomes[who] = Outcome(self._judge(step, decided), decided, step)
        return Delivery(outcomes, last, mail_id(last) if last.accepted else None)

    def _end(self, content: bytes, recipients: list[str], deadline: Deadline) -> Delivery:
        self._check_before_effect(deadline)
        with self._span("content") as span:
            self._send_content(content)
            reply = self._final_reply(self._final_timeout(deadline))
            trace_reply(span, reply)
        self._needs_reset = not reply.accepted
        if reply.code == 421:
            self.abandon()
        verdict = self._judge(Step.END, reply)
        return _all(recipients, verdict, reply, Step.END, mail_id(reply) if verdict is Verdict.ACCEPTED else None)


def _told_apart(begun: list[Reply], recipients: list[Reply], last: Reply) -> bool:
    """Whether these are certainly the replies to one group of commands, none too many and none too few: only the reply
    to an accepted content contains the id of the mail.

    :param begun: the replies to RSET, if it was sent, and MAIL.
    :param last: the reply to the content.
    """
    if any(map(mail_id, [*begun, *recipients])):
        return False
    taken = any(reply.accepted for reply in recipients)
    if last.accepted:
        return taken and all(reply.accepted for reply in begun) and mail_id(last) is not None
    return not taken


def _is_hello(reply: Reply) -> bool:
    return reply.code == 250 and any(line.strip().upper() == "CHUNKING" for line in reply.lines[1:])


def _all(recipients: Iterable[str], verdict: Verdict, reply: Reply, step: Step, id: str | None = None) -> Delivery:
    return Delivery(dict.fromkeys(recipients, Outcome(verdict, reply, step)), reply, id)
