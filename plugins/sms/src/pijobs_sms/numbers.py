"""Phone numbers: what people write, as E.164, and as gateways want them."""

from __future__ import annotations

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

from pijobs_sms.errors import PhoneError

#: How a gateway wants numbers: field value → prefix before the country code.
FORMATS = {"+": "+", "00": "00", "digits": ""}
#: Whoever triggers SMS to these earns by it.
_EXPENSIVE = frozenset({PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.UAN})


def normalize(phone: str, region: str = "", countries: str = "") -> str:
    """The number in E.164, such as ``+491701234567``.

    :param region: ISO 3166 code of the country that numbers without a country code belong to.
    :param countries: ISO codes, separated by spaces, of the only countries that may be sent to; empty: all.
    :raises PhoneError: for what is no number, a premium one, or one of another country.
    """
    try:
        number = phonenumbers.parse(phone, region.upper() or None)
    except NumberParseException:
        where = f"a number of {region.upper()}, or one" if region else "a number"
        raise PhoneError(f"phone: expected {where} with its country code such as +49…, found something else") from None
    if number.extension or (
        phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE
    ):
        raise PhoneError("phone: expected a number of a possible length, found another one")
    if phonenumbers.number_type(number) in _EXPENSIVE:
        raise PhoneError("phone: expected a number that costs what an SMS costs, found a premium one")
    country = phonenumbers.region_code_for_number(number) or "none"
    allowed = countries.upper().split()
    if allowed and country not in allowed:
        raise PhoneError(f"phone: expected a number of {' or '.join(allowed)}, found one of {country}")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def as_gateway_wants(phone: str, form: str) -> str:
    """:param phone: in E.164. :param form: one of :data:`FORMATS`."""
    return FORMATS[form] + phone.removeprefix("+")


def spellings(phone: str) -> set[str]:
    """How the number may stand in an answer: in all formats, and as people of its country write it."""
    number = phonenumbers.parse(phone)
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    international = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    digits = phone.removeprefix("+")
    return {phone, digits, "00" + digits, national, "".join(filter(str.isdigit, national)), international}


def is_region(code: str) -> bool:
    """Whether it is the ISO 3166 code of a country with phones."""
    return code.upper() in phonenumbers.SUPPORTED_REGIONS
