"""The queue class for privacyIDEA's ``PI_JOB_QUEUE_CLASS``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flask
from flask import current_app
from privacyidea.lib.error import ParameterError
from privacyidea.lib.queues.base import BaseQueue, QueueError

import pijobs
from pijobs import Handle, Job, State
from pijobs.base import clock
from pijobs.errors import ConfigurationError, EncodeError, InstanceNotFound, QueueUnavailable, StorageError, UnknownJob
from pijobs.jobs import ENDED
from pijobs.logs.records import write_where
from pijobs_mail.errors import MessageError
from pijobs_mail.job import OTP_VALIDITY
from pijobs_privacyidea import mail, second_channel
from pijobs_privacyidea.definitions import configured_seconds
from pijobs_privacyidea.fingerprint import DefinitionsFingerprint
from pijobs_privacyidea.origin import origin

log = logging.getLogger(__name__)

NO_KEY = (
    "SECRET_KEY: expected one in pi.cfg or the environment, found a random key that privacyIDEA made for this process;"
    " no worker could decrypt its jobs"
)
#: Seconds that the test of an SMTP server waits for its result.
TEST_PATIENCE = 5.0


class Refused(QueueError, ParameterError):  # type: ignore[misc]
    """An invalid call; privacyIDEA answers HTTP 400 with the reason."""

    def __init__(self, reason: str) -> None:
        ParameterError.__init__(self, reason)


class HueyQueue(pijobs.HueyQueue, BaseQueue):  # type: ignore[misc]
    """The queue of a privacyIDEA server. The constructor neither connects nor needs an app context.

    :param options: the ``PI_JOB_QUEUE_…`` settings, without prefix, in lower case.
    :raises SettingsError: with all faults; the server does not start then.
    :raises ConfigurationError: if the plugins that send mails are not loaded.
    """

    #: privacyIDEA shows its user the errors of jobs in the request.
    direct_raises = True

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self._offered: set[str] = set()
        super().__init__(options, host={"SECRET_KEY": _secret_key})
        # In a server, privacyIDEA has configured its log by now; in a worker, it has not.
        write_where(logging.getLogger("privacyidea"))
        DefinitionsFingerprint.install(self.settings)
        if mail.NAME not in self.registry:
            failed = "; ".join(f"{plugin.name}: {plugin.error}" for plugin in self.plugins.failed)
            raise ConfigurationError(
                f"expected the plugins 'privacyidea' and 'mail', found not both loaded ({failed or 'not named'});"
                " see 'pijobs plugins' and PI_JOB_QUEUE_PLUGINS"
            )

    def register_job(self, name: str, func: Callable[..., Any]) -> None:
        """Add one of privacyIDEA's jobs. Keeps our own mail job instead of privacyIDEA's.

        :raises QueueError: if privacyIDEA registered the name before.
        """
        if name in self._offered:
            raise QueueError(f"job {name!r} is registered already")
        self._offered.add(name)
        if name in self.registry:
            return
        if self.mode == "queued":
            log.warning("job %s: a worker knows the jobs of pijobs plugins only; make it one", name)
        super().register_job(name, func)

    def enqueue(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Handle:
        """Enqueue a call of privacyIDEA.

        The test of an unsaved SMTP server waits for its result, since somebody looks at it.

        :raises Refused: if a mail can't be sent, or a test failed; HTTP 400 with the reason.
        :raises QueueError: if the job is unknown, or neither the queue nor a fallback accepts the call.
        """
        try:
            if name == mail.NAME:
                args, kwargs, wanted = mail.call(self.settings, *args, **(kwargs or {}))
                options = {**wanted, **options}
            handle = self._accept(name, args, kwargs, options)
        except MessageError as error:
            self.record_refusal(mail.NAME, mail.refused(*args, **(kwargs or {})), error)
            if self._send_second_now(*_body(*args, **(kwargs or {}))):
                return Handle("", State.QUEUED)
            raise Refused(str(error)) from error
        except (UnknownJob, EncodeError, QueueUnavailable) as error:
            raise QueueError(str(error)) from error
        if name == mail.NAME and kwargs and kwargs["server"] is None:
            self._wait_for_test(handle)
        return handle

    def _accept(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Handle:
        # A plugin's thread in a worker has no app context, but a worker starts only with a key.
        in_app = self.mode == "queued" and flask.has_app_context()
        if in_app and not self.settings.encryption_keys and has_random_key(current_app):
            log.error("job %s: %s; it runs in the request", name, NO_KEY)
            return self.run(name, args, kwargs)
        handle = super().enqueue(name, args, kwargs, **options)
        call, expires = kwargs or {}, options.get("expires")
        if call.get("token") and expires and handle.state not in ENDED:
            text = second_channel.text_of(call.get("text", call.get("message")), call.get("html"))
            self._plan_second(name, call["token"], text, first=handle.id, expires=expires)
        return handle

    def _plan_second(self, name: str, token: str, text: str | None, **options: Any) -> bool:
        """Plan the second channel of an OTP. Returns whether it has one."""
        try:
            return second_channel.plan(self, name, token, text, **options)
        except QueueError as error:
            log.error("an OTP of token %s has no second channel: %s", token, error)
            return False

    def _send_second_now(self, body: Any, mimetype: str) -> bool:
        """Send an OTP by the second channel at once, since no mail can bring it; False if it has none."""
        sent_by = origin()
        if sent_by.kind != "otp" or sent_by.serial is None or not isinstance(body, str):
            return False
        expires = configured_seconds(sent_by.validity, OTP_VALIDITY)
        text = second_channel.text_of(*((None, body) if mimetype == "html" else (body,)))
        return self._plan_second(mail.NAME, sent_by.serial, text, first="", expires=expires, at_once=True)

    def _wait_for_test(self, handle: Handle) -> None:
        """Wait for the result of a test. :raises Refused: unless it was sent within :data:`TEST_PATIENCE`."""
        end = clock.monotonic() + TEST_PATIENCE
        state, reason = handle.state, handle.reason
        while state not in ENDED and self.storage is not None and clock.monotonic() < end:
            clock.sleep(0.05)
            try:
                record = self.storage.get(handle.id)
            except (StorageError, InstanceNotFound):  # in the spool, or the storage does not answer
                continue
            state, reason = record.state, record.reason
        if state is State.DONE:
            return
        if state in ENDED:
            raise Refused(f"the test mail was not sent: {reason or state.value}")
        more = f"; so far: {reason}" if reason else ""
        raise Refused(f"queued, not sent within {TEST_PATIENCE:g} s: is a worker running?{more}")

    @property
    def jobs(self) -> Mapping[str, Job]:
        """All jobs by name."""
        return self.registry


def _body(
    config: Any, recipient: Any, subject: Any, body: Any, sender: Any = None, reply_to: Any = None,
    mimetype: str = "plain",
) -> tuple[Any, str]:  # fmt: skip
    """Body and MIME type of a call of privacyIDEA's mail job."""
    return body, mimetype


def has_random_key(app: flask.Flask) -> bool:
    """Whether privacyIDEA made a random ``SECRET_KEY``, which differs in each process."""
    from privacyidea.config import ProductionConfig

    return not os.environ.get("SECRET_KEY") and app.config["SECRET_KEY"] is ProductionConfig.SECRET_KEY


def _secret_key() -> str | bytes:
    """The key, read at first use in a request or a job: the constructor has no app."""
    key: str | bytes = current_app.config["SECRET_KEY"]
    return key
