"""The errors of an SMS, as one tree.

::

    SmsError
    ├── PhoneError          the number is invalid; found before the SMS is enqueued
    ├── MaybeSent           the gateway may have accepted the SMS
    ├── GatewayDown         the gateway accepts no SMS now; not the fault of this SMS
    └── GatewayRefused      the gateway refuses this SMS for good
        └── AccountRefused  it accepts none of ours; another gateway might

Messages may quote an answer of the gateway, which may contain a number. The job redacts them.
"""

from __future__ import annotations

from pijobs.errors import PijobsError


class SmsError(PijobsError):
    """the SMS could not be sent"""


class PhoneError(SmsError, ValueError):
    """the phone number is invalid"""


class MaybeSent(SmsError):
    """nobody knows whether the gateway accepted the SMS

    The job tries the same gateway once more, but no other one.
    """


class GatewayDown(SmsError):
    """the gateway accepts no SMS now

    :param retry_after: seconds until the next attempt, as the gateway asks.
    :param maybe_sent: whether the SMS may have been sent; if so, the attempt and the limits count it.
    :param counted: whether the attempt counts, since this SMS may cause the failure.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, maybe_sent: bool = False, counted: bool = False
    ) -> None:
        self.retry_after = retry_after
        self.maybe_sent = maybe_sent
        self.counted = counted or maybe_sent
        super().__init__(message)


class GatewayRefused(SmsError):
    """the gateway refuses this SMS

    :param maybe_sent: whether it may have been sent; if so, the limits count it.
    """

    def __init__(self, message: str, *, maybe_sent: bool = False) -> None:
        self.maybe_sent = maybe_sent
        super().__init__(message)


class AccountRefused(GatewayRefused):
    """the gateway accepts no SMS from us; not the fault of this SMS"""
