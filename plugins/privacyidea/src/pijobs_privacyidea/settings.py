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
        help="privacyIDEA's SMTP servers that send OTPs: what waits longer than email.validtime is not sent any more.",
        example=["otp"],
    ),
)
