"""What strangers send is cut before it is searched, and its encodings hide nothing."""

from __future__ import annotations

import base64
import html
import json
import quopri
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from costs import NASTY, costs_little

from pijobs.base.foreign import MOST, cut, decoded, runs
from pijobs.base.known_texts import Known
from pijobs.base.redact import describe, redact, text_of

SECRETS = {"number": "+491701234567", "code": "AB12CD", "key": "APIKEY-SECRET-88", "password": "pass wörd&<x>\"'\\"}

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "url": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "lower": lambda text: quote(text, safe="").lower() if text.islower() else quote(text, safe=""),
    "every letter": lambda text: "".join(f"%{octet:02x}" for octet in text.encode()),
    "twice": lambda text: quote(quote(text, safe=""), safe=""),
    "html": html.escape,
    "html, decimal": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "html, hexadecimal": lambda text: "".join(f"&#x{ord(letter):x};" for letter in text),
    "json": lambda text: json.dumps(text)[1:-1],
    "json, escaped": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "json in a url": lambda text: quote(json.dumps(text), safe=""),
    "url in html": lambda text: html.escape(quote("?a=1&b=" + text, safe="&")),
    "repr": lambda text: repr(text)[1:-1],
    "bytes": lambda text: repr(text.encode())[2:-1],
    "quoted-printable": lambda text: quopri.encodestring(text.encode(), quotetabs=True).decode(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 behind a letter": lambda text: base64.b64encode(b"x" + text.encode()).decode(),
    "base64 of a login": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in a url": lambda text: quote(base64.b64encode(text.encode()).decode(), safe=""),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal, UTF-16": lambda text: text.encode("utf-16-be").hex().upper(),
    "capitals": str.upper,
    "small letters": str.lower,
    "blanks": " ".join,
    "pairs": lambda text: " ".join(pieces(text, 2)),
    "hyphens": lambda text: "-".join(pieces(text, 3)),
    "dots": lambda text: ".".join(pieces(text, 3)),
    "no-break spaces": lambda text: "\u00a0".join(pieces(text, 3)),
    "soft hyphens": "\u00ad".join,
    "NUL": "\0".join,
    "wide letters": lambda text: "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text),
    "capitals in a url": lambda text: "".join(f"%{octet:02X}" for octet in text.upper().encode()),
    "thrice": lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
    "escape()": lambda text: "".join(f"%u{ord(letter):04x}" for letter in text),
    "html without semicolons": lambda text: " ".join(f"&#{ord(letter)}" for letter in text),
    "json twice": lambda text: json.dumps(json.dumps(text))[3:-3],
    "octal": lambda text: "".join(f"\\{octet:03o}" for octet in text.encode()),
    "code points": lambda text: " ".join(f"U+{ord(letter):04X}" for letter in text),
    "ECMAScript 6": lambda text: "".join(f"\\u{{{ord(letter):x}}}" for letter in text),
    "quoted-printable, a soft break": lambda text: f"{text[:3]}=\r\n{text[3:]}",
    "base64 twice": lambda text: as_base64(as_base64(text)),
    "base64 of capitals": lambda text: as_base64(text.upper()),
    "base64 of a url": lambda text: as_base64(quote(text, safe="")),
    "base64 of JSON": lambda text: as_base64(json.dumps({"to": text})),
    "base64 in lines": lambda text: "\r\n".join(pieces(as_base64(f"some 12 letters before, {text}, 12 behind"), 16)),
    "base64 of hexadecimal": lambda text: as_base64(text.encode().hex()),
    "hexadecimal of base64": lambda text: as_base64(text).encode().hex(),
    "hexadecimal with colons": lambda text: text.encode().hex(":"),
    "hexadecimal with 0x": lambda text: " ".join(f"0x{octet:02x}" for octet in text.encode()),
}


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def as_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_known_secret_is_masked_however_it_is_encoded(secret: str, encoding: str) -> None:
    known = Known([SECRETS["number"], SECRETS["code"]], [SECRETS["key"], SECRETS["password"]])
    written = ENCODINGS[encoding](SECRETS[secret])
    for around in ("error in /send?to={}&x=1", "key={}", "<b>{}</b>", '{{"to": "{}"}}', "see {} there"):
        shown = redact(around.format(written), known)
        assert "***" in shown
        assert written not in shown
        assert not any(SECRETS[secret] in view for view in (shown, *decoded(shown)))


def test_what_stands_directly_behind_a_word_is_masked_too() -> None:
    assert redact("otp123456x, idAB12CD, keyAPIKEY-SECRET-88s", Known(["123456", "AB12CD"], ["APIKEY-SECRET-88"])) == (
        "otp***x, id***, key***s"
    )


def test_a_number_is_not_taken_for_a_part_of_a_longer_one() -> None:
    assert redact("took 347118 ms", ["4711"]) == "took *** ms"  # as a long number
    assert redact("id a147112f", ["4711"]) == "id a147112f"


def test_an_address_behind_an_encoding_is_masked() -> None:
    assert redact("no mail to alice%40example.com") == "no mail to a***@example.com"


def test_an_encoding_that_hides_nothing_stays_as_it_is() -> None:
    for text in ("GET /a%20b", "a &amp; b", r"C:\x41", "50% off", "dGhlIHF1aWNrIGJyb3du"):
        assert redact(text, ["secret 1"]) == text


def test_an_id_of_a_mail_read_as_base64_is_noise_and_is_not_searched() -> None:
    assert [reading for _, reading in runs("250 2.0.0 Ok: queued as 4XyKdz6mBhz9sR")] == [()]
    noisy = base64.b64encode(b"\xff\xfe\xfd" + b"hunter2" + b"\xfc\xfb").decode()
    assert "hunter2" in "".join(next(runs(noisy))[1])


def test_a_text_is_cut_before_it_is_searched() -> None:
    assert len(cut("a" * 10_000)) == len(cut(b"a" * 10_000)) == MOST
    assert "alice" not in redact("x" * MOST + " alice@example.com")


def test_a_secret_that_the_cut_takes_apart_does_not_show() -> None:
    secret = "hunter-two-is-long"
    text = ("hidden42 " * 500)[: MOST - 9] + secret
    assert secret[:6] not in redact(text, [secret, "hidden42"])


@pytest.mark.parametrize("nasty", NASTY)
def test_a_long_text_costs_no_more_than_a_short_one(nasty: str) -> None:
    text, known = NASTY[nasty], Known(["+491701234567", "Dear Alice", "AB12CD"], ["APIKEY-SECRET-88"])
    assert costs_little(lambda: redact(text, known))
    assert costs_little(lambda: redact(text))
    assert costs_little(lambda: describe(ValueError(text), known))
    assert costs_little(lambda: text_of(text))
