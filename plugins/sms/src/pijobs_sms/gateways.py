"""The definitions of SMS gateways: the common fields, and those of each provider."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pijobs import Settings, Told, call_hook
from pijobs.base.network import is_local
from pijobs.definitions import (
    DESCRIPTION,
    FALLBACK,
    LIMITS,
    Definitions,
    DefinitionStore,
    Field,
    ca_file_setting,
    login_without_tls_setting,
)
from pijobs_sms.numbers import FORMATS, is_region
from pijobs_sms.provider import Provider

log = logging.getLogger(__name__)

KIND = "smsgateway"
PREFIX = "PI_JOB_QUEUE_SMS_"


def _check_region(value: str) -> str | None:
    return None if not value or is_region(value) else "expected an ISO code of a country such as DE, found another text"


def _check_countries(value: str) -> str | None:
    wrong = [code for code in value.split() if not is_region(code.removesuffix("!"))]
    return f"expected ISO codes such as 'DE AT CH', found {' '.join(wrong)[:60]}" if wrong else None


def _check_limit(value: int) -> str | None:
    return None if 0 <= value <= 1_000_000 else f"expected 0 to 1000000, found {value}"


FIELDS = (
    Field("provider", default="http", help="the way to speak to the gateway"),
    DESCRIPTION,
    Field("region", default="", check=_check_region, help="country of numbers without a country code, such as DE"),
    Field("phone_format", default="+", choices=tuple(FORMATS), help="what stands before 49…; digits: nothing"),
    Field(
        "countries", default="", check=_check_countries, section=LIMITS,
        help="the only countries to send to, such as DE AT CH; empty: all. US is all of +1, US! the US alone",
    ),
    Field(
        "per_number", int, default=10, check=_check_limit, section=LIMITS,
        help="SMS to one number in an hour; 0: no limit",
    ),
    Field(
        "per_hour", int, default=1000, check=_check_limit, section=LIMITS,
        help="SMS by this gateway in an hour; 0: no limit",
    ),
    FALLBACK,
)  # fmt: skip

CA_FILE = ca_file_setting("SMS", "HTTP gateways'")
LOGIN_WITHOUT_TLS = login_without_tls_setting(
    "sms", "SMS gateways", "SMS, and their gateway's login", "kannel.internal"
)
SETTINGS = (CA_FILE, LOGIN_WITHOUT_TLS)


@dataclass(frozen=True)
class Gateways:
    """The providers of an installation, and the declaration of its gateways."""

    providers: Mapping[str, Provider]
    declaration: Definitions

    @classmethod
    def of(cls, settings: Settings) -> Gateways:
        """The providers of an installation; asks its plugins once."""
        return settings.resource(cls, lambda: cls._made(settings))

    @classmethod
    def _made(cls, settings: Settings) -> Gateways:
        providers: dict[str, Provider] = {}
        for plugin, given in call_hook(settings, "register_sms_providers", settings=settings):
            for provider in given or ():
                if provider.name in providers:
                    log.error("plugin %s: there is an SMS provider %r already", plugin, provider.name)
                else:
                    providers[provider.name] = provider
        return cls(providers, declare(providers.values()))


def declare(providers: Iterable[Provider]) -> Definitions:
    """The fields of these providers' gateways."""
    named = {provider.name: provider for provider in providers}
    variants = {name: provider.fields for name, provider in named.items()}

    def login_in_clear(gateway: Mapping[str, Any], settings: Settings) -> Iterable[str]:
        login = gateway.get("username") or gateway.get("proxy_username") or declaration.credentials(gateway)
        return named[gateway["provider"]].in_clear(gateway, settings) if login else ()

    declaration = Definitions(KIND, FIELDS, choice="provider", variants=variants, in_clear=login_in_clear)
    return declaration


def in_clear(host: str, gateway: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """A sentence on what others on the network can read, for a gateway without TLS on another host."""
    if not may_hear(host, settings):
        yield Told(
            "the connection to SMS gateway {name!r} has no TLS: others on the network can read it; "
            "use TLS, or name {host} in {setting}",
            name=gateway["identifier"], host=host, setting=LOGIN_WITHOUT_TLS,
        )  # fmt: skip


def may_hear(host: str, settings: Settings) -> bool:
    """Whether unencrypted data for the host stays on this machine, or is allowed."""
    return is_local(host) or host.lower() in [name.lower() for name in settings[LOGIN_WITHOUT_TLS]]


def open_store(settings: Settings) -> DefinitionStore:
    """The gateways of an installation."""
    return Gateways.of(settings).declaration.open(settings)
