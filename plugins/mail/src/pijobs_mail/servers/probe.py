"""What a good doctor does to an SMTP server: one step after another, each with its time and, if it fails, advice.

By :mod:`smtplib`, as a second opinion beside the engine; the test mail goes by the engine itself.
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from pijobs.base import clock
from pijobs.base.redact import redact
from pijobs.settings import Settings
from pijobs_mail.compose import message_id
from pijobs_mail.compose.addresses import sender_of
from pijobs_mail.compose.message import Letter, compose
from pijobs_mail.compose.message_id import make_message_id
from pijobs_mail.compose.smime import load_signer
from pijobs_mail.engine import hints, oauth
from pijobs_mail.engine.delivery import Deadline, Endpoint, Mail
from pijobs_mail.engine.hints import ADVICE
from pijobs_mail.engine.replies import Verdict
from pijobs_mail.engine.transport import Conversation
from pijobs_mail.errors import MailError, SigningFailed
from pijobs_mail.servers.definitions import DEFINITIONS, endpoint
from pijobs_mail.servers.probe_steps import (
    Client,
    Wrong,
    addresses,
    advice_for,
    agreed,
    connect,
    encrypt,
    features,
    login,
    start_tls,
    until,
    words_of,
)

#: Seconds to wait for the word on a test mail: somebody waits for the probe.
PATIENCE = 30.0


@dataclass(frozen=True)
class Step:
    """One finding. :ivar seconds: that it took. :ivar advice: what to do, when it is not ok."""

    name: str
    ok: bool
    seconds: float
    found: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "seconds": round(self.seconds, 4)}


@dataclass
class Probe:
    """A look at the server of a definition.

    :param recipient: gets a test mail; None: none is sent.
    :param say: is given each step as soon as it is done.
    """

    definition: Mapping[str, Any]
    settings: Settings
    recipient: str | None = None
    say: Callable[[Step], None] = lambda _: None
    steps: list[Step] = field(default_factory=list)

    def run(self) -> bool:
        """Whether all is well."""
        return all(step.ok for step in self.walk())

    def walk(self) -> Iterator[Step]:
        """Each step as soon as it is done. What can't be reached because a step failed is not among them."""
        place = endpoint(self.definition, self.settings)
        client = Client(timeout=place.timeout, local_hostname=place.ehlo)
        try:
            for name, work in self._way(client, place):
                step = self._step(name, work)
                self.steps.append(step)
                self.say(step)
                yield step
                if not step.ok:
                    return
        finally:
            client.close()

    def _way(self, client: smtplib.SMTP, place: Endpoint) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "dns", lambda: addresses(place)
        yield "tcp", lambda: connect(client, place)
        if place.security == "tls":
            yield "tls", lambda: encrypt(client, place)
        yield "greeting", lambda: agreed(client.getreply())
        yield "features", lambda: features(client)
        if place.security == "starttls":
            yield "tls", lambda: start_tls(client, place)
            yield "features", lambda: features(client)
        if place.oauth is not None:
            grant = place.oauth
            yield "token", lambda: f"an access token of {len(oauth.access_token(grant, place.timeout))} bytes"
        if place.username or place.oauth:
            yield "login", lambda: login(client, place)
        with suppress(OSError, smtplib.SMTPException):  # the good-bye is no finding
            client.quit()
        if self.definition["smime"]:
            yield "smime", self._signer
        if self.recipient:
            yield "mail", lambda: self._mails(place)

    def _step(self, name: str, work: Callable[[], str]) -> Step:
        started, ok, advice = clock.monotonic(), True, None
        try:
            found = work()
        except (OSError, MailError, smtplib.SMTPException, ValueError) as error:
            ok, found, advice = False, words_of(error), ADVICE[advice_for(name, error)]
        known = [
            str(self.definition[secret])
            for secret in DEFINITIONS.secrets_of(self.definition)
            if self.definition.get(secret)
        ]
        return Step(name, ok, clock.monotonic() - started, redact(found, known), advice)

    def _signer(self) -> str:
        definition = self.definition
        paths = definition["certificate"] or "", definition["private_key"] or ""
        signer = load_signer(*paths, definition["private_key_password"] or "")
        if signer.expires <= datetime.fromtimestamp(clock.time(), timezone.utc):
            raise SigningFailed(f"the certificate ended on {signer.expires:%Y-%m-%d}; no recipient trusts it any more")
        return f"signed by {signer.certificate.subject.rfc4514_string()}, {until(signer.expires)}"

    def _mails(self, place: Endpoint) -> str:
        """Two over one connection: what a server limits shows at the second."""
        patience, conversation = Deadline(final_timeout=lambda: PATIENCE), Conversation(place)
        taken: list[str] = []
        try:
            conversation.open(patience)
            for number in (1, 2):
                delivery = conversation.send(self._test_mail(number), patience)
                for outcome in delivery.outcomes.values():
                    if outcome.verdict is not Verdict.ACCEPTED:
                        raise Wrong(f"not taken at {outcome.step}: {outcome.reply}", hints.for_mail(outcome))
                taken.append(str(delivery.reply))
        except (MailError, Wrong) as error:
            if not taken:
                raise
            raise Wrong(f"the first mail was taken: {taken[0]}; the second: {words_of(error)}", "second") from None
        finally:
            conversation.close()
        return f"taken: {taken[0]}; a second one over the same connection, too: {taken[1]}"

    def _test_mail(self, number: int) -> Mail:
        assert self.recipient is not None
        sender = str(self.definition["sender"] or "")
        letter = Letter(
            to=(self.recipient,),
            subject=f"Test mail {number} of 2 of pijobs",
            text="This is a test mail of 'pijobs mail probe'. There are two, over one connection.\n",
        )
        content = compose(letter, sender=sender, message_id=make_message_id(sender), date=message_id.now())
        return Mail(sender_of(sender).spec, tuple(box.spec for box in letter.recipients), content)
