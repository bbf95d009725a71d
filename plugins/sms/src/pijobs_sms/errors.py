"""What can go wrong with an SMS, one tree.

::

    SmsError
    ├── PhoneError          the number can't be sent to; found before anything is enqueued
    ├── MaybeSent           nobody knows whether the gateway took the SMS
    ├── GatewayDown         the gateway takes no SMS now; no fault of this one
    └── GatewayRefused      the gateway does not take this SMS, and never will
        └── AccountRefused  it does not take ours; another gateway might

Messages may quote an answer of the gateway, which may quote a number: the job redacts them before people see them.
"""

from __future__ import annotations

from pijobs.errors import PijobsError


class SmsError(PijobsError):
    """the SMS could not be sent"""


class PhoneError(SmsError, ValueError):
    """the phone number can't be sent to"""


class MaybeSent(SmsError):
    """nobody knows whether the gateway took the SMS

    No other gateway is asked; this one is, once more.
    """


class GatewayDown(SmsError):
    """the gateway takes no SMS now

    :param retry_after: seconds after which it asked to be tried again.
    :param maybe_sent: whether the SMS may have been sent all the same; the attempt and the limits count then.
    :param counted: whether the attempt counts, since it may be this SMS that the gateway can't bear.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, maybe_sent: bool = False, counted: bool = False
    ) -> None:
        self.retry_after = retry_after
        self.maybe_sent = maybe_sent
        self.counted = counted or maybe_sent
        super().__init__(message)


class GatewayRefused(SmsError):
    """the gateway does not take this SMS

    :param maybe_sent: whether it may have been sent all the same; the limits count it then.
    """

    def __init__(self, message: str, *, maybe_sent: bool = False) -> None:
        self.maybe_sent = maybe_sent
        super().__init__(message)


class AccountRefused(GatewayRefused):
    """the gateway takes no SMS from us, which is not this SMS's fault"""
