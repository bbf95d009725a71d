"""Converts phone numbers from people's spellings to E.164, and to gateways' formats."""

from __future__ import annotations

import re
from contextlib import suppress

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

from pijobs_sms.errors import PhoneError

#: Formats of gateways: field value, and prefix before the country code.
FORMATS = {"+": "+", "00": "00", "digits": ""}
_PHONES = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
#: Types of numbers that earn money for their owners.
_EXPENSIVE = frozenset({PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.UAN})


def normalize(phone: str, region: str = "", countries: str = "") -> str:
    """The number in E.164, such as ``+491701234567``.

    :param region: ISO 3166 code of the country for numbers without a country code.
    :param countries: ISO codes, separated by spaces, of the allowed countries; empty: all. ``US``
        stands for all of +1, ``US!`` for the US alone.
    :raises PhoneError: if it is no number, or one with premium rates or of another country.
    """
    phone = " ".join(phone.split())
    # The library would translate letters to digits as on a telephone's keys: "/ home" to 4663.
    if re.match(r"\D*\d.*[^\W\d_]", phone):
        raise PhoneError("phone: expected a number, found one with letters behind it")
    readings = _readings(phone, region.upper())
    if not readings:
        where = f"a number of {region.upper()}, or one" if region else "a number"
        raise PhoneError(f"phone: expected {where} with its country code such as +49…, found something else")
    if len(readings) > 1:
        raise PhoneError("phone: expected a number with a plus, found one that can be read in two ways")
    [number] = readings
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise PhoneError("phone: expected a number of a possible length, found another one")
    if phonenumbers.number_type(number) in _EXPENSIVE:
        raise PhoneError("phone: expected a number that costs what an SMS costs, found a premium one")
    allowed = countries.upper().split()
    if allowed and not any(_is_of(number, country) for country in allowed):
        found = phonenumbers.region_code_for_number(number) or "none"
        raise PhoneError(f"phone: expected a number of {' or '.join(allowed)}, found one of {found}")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def _readings(phone: str, region: str) -> list[phonenumbers.PhoneNumber]:
    """The possible numbers of a text, phones that receive SMS first.

    Two zeros stand for a plus (ITU-T E.123, 2.4), though not in every region; directories omit the plus.
    """
    texts = [_international(phone)]
    if region:
        code = str(phonenumbers.country_code_for_region(region))
        texts += [phone, *([f"+{phone}"] if phone.startswith(code) else [])]
    found = {}
    for text in texts:
        with suppress(NumberParseException):
            number = phonenumbers.parse(text, region or None)
            found[phonenumbers.format_number(number, PhoneNumberFormat.E164)] = number
    valid = [number for number in found.values() if phonenumbers.is_valid_number(number)]
    return (
        [number for number in valid if phonenumbers.number_type(number) in _PHONES] or valid or [*found.values()][-1:]
    )


def _international(phone: str) -> str:
    """The text with a plus instead of two leading zeros."""
    return re.sub(r"^\D*0[ -]?0", "+", phone) if "+" not in phone else phone


def _is_of(number: phonenumbers.PhoneNumber, country: str) -> bool:
    """Whether the number belongs to the country.

    The main country of a calling code stands for the whole code: people there have numbers of neighbours (Jersey under
    GB, Kazakhstan under RU), and no list knows all numbers. ``US!`` stands for the US alone, as does any country that
    shares the code of another one.
    """
    region = country.removesuffix("!")
    if region == country == phonenumbers.region_code_for_country_code(number.country_code or 0):
        return True
    # Some numbers belong to both: no list tells Italian phones from those of the Vatican.
    return region == phonenumbers.region_code_for_number(number) or phonenumbers.is_valid_number_for_region(
        number, region
    )


def as_gateway_wants(phone: str, form: str) -> str:
    """The number for a gateway. :param phone: in E.164. :param form: one of :data:`FORMATS`."""
    return FORMATS[form] + phone.removeprefix("+")


def spellings(phone: str) -> set[str]:
    """The spellings of a number that an answer may contain: all formats, and those of its country."""
    number = phonenumbers.parse(phone)
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    international = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    digits = phone.removeprefix("+")
    return {phone, digits, "00" + digits, national, "".join(filter(str.isdigit, national)), international}


def is_region(code: str) -> bool:
    """Whether it is the ISO 3166 code of a country with telephones."""
    return code.upper() in phonenumbers.SUPPORTED_REGIONS
