"""The settings of this plugin."""

from __future__ import annotations

from pijobs import Setting

OWN_CLASS = "pijobs_privacyidea.HueyQueue"
PREFIX = "PI_JOB_QUEUE_PRIVACYIDEA_"
OTP_SERVERS = PREFIX + "OTP_SERVERS"

SETTINGS = (
    Setting(
        name=OTP_SERVERS,
        default=(),
        expected="a list of identifiers of SMTP servers",
        accepts=lambda value: (
            isinstance(value, (list, tuple)) and all(isinstance(name, str) and name for name in value)
        ),
        help=(
            "SMTP servers all of whose mails expire after email.validtime, notices, too. The OTPs of tokens do so by"
            " themselves, whatever server they go by."
        ),
        example=["otp"],
    ),
)
