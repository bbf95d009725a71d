"""Fields and settings that destinations of different plugins share."""

from __future__ import annotations

from collections.abc import Sequence

from pijobs.definitions.fields import Field
from pijobs.settings import PREFIX, Setting

#: Headings of forms.
CONNECTION, LOGIN, SECURITY, LIMITS = "Connection", "Login", "Security", "Limits"
DESCRIPTION = Field("description", default="", help="for people")
USERNAME = Field("username", default="", section=LOGIN, help="login; empty: none")
PASSWORD = Field("password", default="", secret=True, section=LOGIN, help="password or token of the login")


def timeout_field(most: float, help: str) -> Field:
    """The field ``timeout``, in seconds; the default is 10.

    :param most: the most seconds.
    """

    def check(value: float) -> str | None:
        return None if 0 < value <= most else f"expected seconds above 0 and up to {most:g}, found {value}"

    return Field("timeout", float, default=10.0, check=check, section=CONNECTION, help=help)


def ca_file_setting(plugin: str, whose: str) -> Setting[str | None]:
    """The setting ``PI_JOB_QUEUE_<PLUGIN>_CA_FILE``.

    :param plugin: its name, as in its other settings.
    :param whose: such as "SMTP servers'".
    """
    return Setting(
        name=f"{PREFIX}{plugin.upper()}_CA_FILE",
        default=None,
        expected="the path of a PEM file, or None",
        accepts=lambda value: value is None or (isinstance(value, str) and value != ""),
        help=f"Authorities that {whose} certificates may come from, besides the system's.",
        example="/etc/ssl/private-ca.pem",
    )


def login_without_tls_setting(plugin: str, whose: str, given: str, example: str) -> Setting[Sequence[str]]:
    """The setting ``PI_JOB_QUEUE_<PLUGIN>_LOGIN_WITHOUT_TLS``.

    :param plugin: its name, as in its other settings.
    :param whose: such as "SMTP servers".
    :param given: what is sent there unencrypted.
    :param example: a host.
    """
    return Setting(
        name=f"{PREFIX}{plugin.upper()}_LOGIN_WITHOUT_TLS",
        default=(),
        expected=f"a list of host names as the {whose} have them",
        accepts=lambda value: isinstance(value, (list, tuple)) and all(isinstance(host, str) for host in value),
        help=f"Hosts that may be given {given}, in clear. This machine always may.",
        example=[example],
    )
