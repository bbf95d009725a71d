"""What goes through the codec comes back the same, or is refused; nothing changed gets through."""

from __future__ import annotations

import base64
import datetime as dt
import email
import email.policy
import enum
import io
import uuid
from collections import OrderedDict, namedtuple
from contextlib import suppress
from decimal import Decimal
from email.generator import BytesGenerator
from email.header import Header
from email.message import EmailMessage, Message
from email.mime.application import MIMEApplication
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pijobs.errors import Damaged, DecodeError, EncodeError
from pijobs.payload.codec import VERSION, Call, Codec, check_arguments, open_envelope, pack_call
from pijobs.payload.keys import KeyRing
from pijobs.payload.packing import pack_arguments, unpack
from pijobs.storage.protocol import FIRST, NEWEST

CODEC = Codec(KeyRing(["new", "old"]))
HEAD: dict[str, Any] = {"id": "0af3c1", "name": "mail.send", "created": 1_700_000_000_000, "deadline": None}

# -- round trip ------------------------------------------------------------------------------------------------------

zones = st.none() | st.sampled_from(
    [
        dt.timezone.utc, dt.timezone(dt.timedelta(hours=-9.5)), dt.timezone(dt.timedelta(hours=2), "CEST"),
        dt.timezone(dt.timedelta(microseconds=1)), dt.timezone(dt.timedelta(0), "Z"),
        dt.timezone(dt.timedelta(hours=23), ""),
        ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"), ZoneInfo("Australia/Lord_Howe"),
    ]
)  # fmt: skip
moments = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.datetimes(), zones, st.sampled_from([0, 1])
)
hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(min_value=-(2**300), max_value=2**300)
    | st.floats(allow_nan=False) | st.text() | st.binary() | moments | st.dates() | st.uuids()
    | st.decimals(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
values = st.recursive(
    hashable | st.sets(hashable, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(min_value=-(2**63), max_value=2**64 - 1), inner, max_size=3)
    ),
    max_leaves=10,
)


def through(value: Any) -> Any:
    envelope, body = CODEC.encode(**HEAD, call=Call((value,), {"named": value}))
    call = CODEC.decode(envelope, body)
    assert typed(call.kwargs["named"]) == typed(call.args[0])
    return call.args[0]


def typed(value: Any) -> Any:
    """The value with all types written beside it: 1, 1.0 and True are equal, and not the same."""
    if isinstance(value, dict):
        return dict, [(typed(key), typed(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [typed(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(typed(item)) for item in value)
    if isinstance(value, Message):
        return type(value), wire(value)
    return type(value), hex(value) if type(value) is int else repr(value)


@settings(max_examples=150, deadline=None)
@given(values)
def test_every_supported_value_comes_back_with_its_type(value: Any) -> None:
    assert typed(through(value)) == typed(value)


@pytest.mark.parametrize(
    "value",
    [
        2**63, 2**64, -(2**63) - 1, 10**5000, -(10**5000), -0.0, float("inf"), Decimal("NaN"), Decimal("-0E+7"),
        dt.datetime.max, dt.date.min, (), set(), frozenset({frozenset(), ()}), ({"x": [(1,)]},), b"\x00\xff", "",
        dt.datetime(2026, 1, 1, microsecond=1, tzinfo=dt.timezone(dt.timedelta(seconds=1))), uuid.UUID(int=0),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_at_the_edge_come_back(value: Any) -> None:
    back = through(value)
    assert type(back) is type(value)
    assert back == value or repr(back) == repr(value)


def test_a_moment_of_a_zone_comes_back_as_the_same_moment() -> None:
    for fold in (0, 1):
        moment = dt.datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
        back = through(moment)
        assert back.timestamp() == moment.timestamp() and back.utcoffset() == moment.utcoffset()
        assert (back.fold, back.tzinfo) == (fold, ZoneInfo("Europe/Berlin"))
        assert back + dt.timedelta(days=180) == moment + dt.timedelta(days=180)


def test_a_plain_moment_is_stored_as_0_1_0_reads_it() -> None:
    for zone in (None, dt.timezone.utc, dt.timezone(dt.timedelta(hours=2))):
        packed = pack_call(Call((dt.datetime(2026, 1, 1, tzinfo=zone),), {}))
        assert msgspec.msgpack.decode(packed)[0][0].code == 5


class HalfPast(dt.tzinfo):
    """A time zone of somebody's own."""

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(minutes=30)

    def dst(self, _: dt.datetime | None) -> None: ...

    def tzname(self, _: dt.datetime | None) -> None: ...


def test_a_moment_of_a_zone_that_can_not_come_back_is_refused() -> None:
    with (Path("/usr/share/zoneinfo/UTC")).open("rb") as file:
        nameless = ZoneInfo.from_file(file)
    for zone in (HalfPast(), nameless):
        told = r"args\[0\]: expected a datetime with a time zone of zoneinfo, or with a fixed offset, found one of"
        with pytest.raises(EncodeError, match=told):
            check_arguments((dt.datetime(2026, 1, 1, tzinfo=zone),), {})


def test_a_zone_that_this_machine_does_not_know_is_left_to_others() -> None:
    key = KeyRing(["new", "old"]).newest
    envelope = CODEC.encode(**HEAD, call=Call((), {}))[0]
    zoned = msgspec.msgpack.Ext(12, b'["2026-01-01T00:00:00", 0, "Atlantis/Capital"]')
    body = key.encrypt(msgspec.msgpack.encode([[zoned], {}, None]), envelope)
    with pytest.raises(DecodeError, match="unknown time zone 'Atlantis/Capital'") as caught:
        CODEC.decode(envelope, body)
    assert not isinstance(caught.value, Damaged)


def test_not_a_number_comes_back() -> None:
    assert repr(through(float("nan"))) == "nan"


def test_names_of_arguments_and_label_come_back() -> None:
    sealed = CODEC.encode(**HEAD, call=Call((1,), {"ä b": 2, "delay": 3}, "a***@example.com"))
    assert CODEC.decode(*sealed) == Call((1,), {"ä b": 2, "delay": 3}, "a***@example.com")


def test_nothing_is_stored_in_clear() -> None:
    envelope, body = CODEC.encode(**HEAD, call=Call(("alice@example.com", "739105"), {}, "a label"))
    assert all(word not in envelope + body for word in (b"alice", b"739105", b"label"))
    assert open_envelope(envelope).name == "mail.send"


# -- messages --------------------------------------------------------------------------------------------------------


def wire(message: Message) -> bytes:
    """The bytes that :meth:`smtplib.SMTP.send_message` sends."""
    out = io.BytesIO()
    BytesGenerator(out).flatten(message, linesep="\r\n")
    return out.getvalue()


def modern(policy: Any = email.policy.default) -> EmailMessage:
    message = EmailMessage(policy=policy)
    message["From"] = "Jürgen Müller <jm@example.com>"
    message["To"] = ", ".join(f"Frau Zoë Nr. {n} <zoe{n}@example.com>" for n in range(9))
    message["Subject"] = "Ihr Einmalpasswort für die Anmeldung am Portal der Universität zu Köln " * 3
    message["X-Long"] = "x" * 300
    message.set_content("Grüße\nFrom here on\n.\n" + "ein sehr langer Satz " * 60 + "\r\nEnde")
    message.add_alternative("<p>Grüße</p>", subtype="html")
    message.add_attachment(bytes(range(256)) * 5, maintype="image", subtype="png", filename="qr-cödé.png")
    return message


def legacy() -> MIMEMultipart:
    message = MIMEMultipart("related")
    message["Subject"] = Header("Grüße aus der Universität zu Köln " * 4, "utf-8")  # type: ignore[assignment]
    message["To"] = "alice@example.com, " + ", ".join(f"someone{n}@example.com" for n in range(12))
    message["From"] = "pi@example.com"
    message["X-Tab"] = "folded\n\tby hand"
    message.attach(MIMEText("From me, to you: Grüße\n.\nlast", "plain", "utf-8"))
    message.attach(MIMEText("<b>ascii</b>\nFrom there\n", "html"))
    message.attach(MIMEApplication(bytes(range(256)) * 3, Name="qr.png"))
    message.attach(MIMEMessage(MIMEText("inner")))
    return message


def raw(policy: Any) -> Message:
    lines = [
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        b"  and more",
        b"X-Bad: \xe4\xf6",
        b"Content-Type: text/plain; charset=latin-1",
        b"Content-Transfer-Encoding: 8bit",
        b"",
        b"Gr\xfc\xdfe",
        b"From x",
    ]
    message: Message = email.message_from_bytes(b"\r\n".join(lines), policy=policy)
    return message


def test_a_message_comes_back_as_the_class_that_made_it() -> None:
    """Code of others asks for it: ``isinstance(body, MIMEBase)``."""
    made = legacy()
    back = unpack(pack_arguments([made], {}))[0][0]
    assert [type(part) for part in back.walk()] == [type(part) for part in made.walk()]
    back.attach(MIMEText("one more"))
    assert type(unpack(pack_arguments([Message()], {}))[0][0]) is Message


def calendar() -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "plain"
    message.set_content("short\n")
    message.add_attachment(modern())
    return message


@pytest.mark.parametrize(
    "message",
    [
        modern(),
        modern(email.policy.SMTP),
        modern(email.policy.SMTPUTF8),
        modern(email.policy.default.clone(max_line_length=200, cte_type="7bit")),
        legacy(),
        MIMEText("just a text\nFrom x"),
        MIMEText("Grüße", "plain", "utf-8"),
        MIMEText("Grüße", "plain", "utf-8", policy=email.policy.SMTP),
        raw(email.policy.compat32),
        raw(email.policy.default),
        calendar(),
        EmailMessage(),
        Message(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_back_with_the_same_bytes_on_the_wire(message: Message) -> None:
    back = through(message)
    assert wire(back) == wire(message)
    assert isinstance(back, EmailMessage) == isinstance(message, EmailMessage)
    assert back.get_content_type() == message.get_content_type() and back.is_multipart() == message.is_multipart()


def test_a_message_can_be_changed_after_it_came_back() -> None:
    back = through(modern())
    del back["Subject"]
    back["Subject"] = "Grüße " * 30
    back["Message-ID"] = "<1@example.com>"
    again = email.message_from_bytes(wire(back), policy=email.policy.default)
    assert again["Subject"] == ("Grüße " * 30).strip() or again["Subject"] == "Grüße " * 30
    plain = again.get_body(("plain",))
    assert plain is not None and plain.get_content().startswith("Grüße")


def test_a_legacy_message_can_be_changed_after_it_came_back() -> None:
    back = through(legacy())
    del back["Subject"]
    back["Subject"] = "a long subject " * 20
    back["Reply-To"] = Header("Grüße", "utf-8")
    assert type(back["To"]) is str
    again = email.message_from_bytes(wire(back), policy=email.policy.default)
    assert again["Subject"].strip() == ("a long subject " * 20).strip() and again["Reply-To"] == "Grüße"
    assert max(map(len, wire(back).split(b"\r\n\r\n")[0].splitlines())) <= 80


def test_the_sender_s_message_is_not_touched() -> None:
    message = modern()
    before = wire(message)
    through(message)
    assert wire(message) == before


def test_a_message_that_is_not_complete_is_refused() -> None:
    broken = EmailMessage()
    broken.set_payload(object())  # type: ignore[call-overload]
    with pytest.raises(EncodeError, match=r"args\[0\]: expected a complete email message"):
        check_arguments([broken], {})


# -- refusal ---------------------------------------------------------------------------------------------------------


class Colour(str, enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [
        object(), print, Colour.RED, Text("x"), Point(1, 2), OrderedDict(), bytearray(b"x"), memoryview(b"x"), 1j,
        dt.timedelta(1), dt.time(1), range(3), (x for x in "x"), ValueError("x"), type, CYCLE, {1.5: 1}, {True: 1},
        {(1, 2): 3}, {2**64: 1}, "\ud800", {"\ud800": 1}, {"deep": ["\udfff"]},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_anything_else_is_refused(value: Any) -> None:
    for args, kwargs in (((value,), {}), ((), {"named": value})):
        with pytest.raises(EncodeError):
            check_arguments(args, kwargs)
        with pytest.raises(EncodeError):
            CODEC.encode(**HEAD, call=Call(args, kwargs))


def test_the_refusal_tells_the_path_what_was_expected_and_what_was_found() -> None:
    with pytest.raises(EncodeError) as caught:
        check_arguments([1, {"items": [0, (1, {"when": dt.timedelta(1)})]}], {})
    told = str(caught.value)
    assert told.startswith("args[1]['items'][1][1]['when']: expected a value that can be stored")
    assert told.endswith("found datetime.timedelta")


def test_the_refusal_tells_the_name_of_the_argument() -> None:
    with pytest.raises(EncodeError, match=r"^config\['password'\]\[0\]: expected"):
        check_arguments([], {"config": {"password": [object()]}})


def test_the_refusal_quotes_neither_a_value_nor_an_address() -> None:
    with pytest.raises(EncodeError) as caught:
        check_arguments([], {"to": {"alice@example.com": ["739105", {"123456": object()}]}})
    assert all(word not in str(caught.value) for word in ("alice@", "739105", "123456"))


def test_names_that_are_no_text_are_refused() -> None:
    wrong: Any = {1: 2}
    with pytest.raises(EncodeError, match="kwargs: expected text as names, found int"):
        check_arguments([], wrong)


def test_too_many_levels_are_refused_and_enough_are_not() -> None:
    for wrap in (lambda v: [v], lambda v: (v,), lambda v: {"x": v}):
        value: Any = 1
        for _ in range(50):
            value = wrap(value)
        assert through(value) == value
        with pytest.raises(EncodeError, match="levels"):
            check_arguments([wrap(wrap(wrap(value)))], {})


# -- damage ----------------------------------------------------------------------------------------------------------

ENVELOPE, BODY = CODEC.encode(**HEAD, call=Call((1, "two"), {"three": [3]}))


def test_any_flipped_bit_of_the_envelope_is_noticed() -> None:
    for bit in range(len(ENVELOPE) * 8):
        damaged = bytearray(ENVELOPE)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            CODEC.decode(bytes(damaged), BODY)


def test_any_flipped_bit_of_the_body_is_noticed() -> None:
    for bit in range(len(BODY) * 8):
        damaged = bytearray(BODY)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            CODEC.decode(ENVELOPE, bytes(damaged))


def test_any_cut_is_noticed() -> None:
    for length in range(len(ENVELOPE)):
        with pytest.raises(DecodeError):
            CODEC.decode(ENVELOPE[:length], BODY)
    for length in range(len(BODY)):
        with pytest.raises(DecodeError):
            CODEC.decode(ENVELOPE, BODY[:length])


@settings(max_examples=150, deadline=None)
@given(st.binary())
def test_any_other_bytes_are_no_envelope(data: bytes) -> None:
    with pytest.raises(DecodeError):
        open_envelope(data)


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers(0, 300) | st.text() | st.binary() | st.floats(), st.lists))
def test_any_other_value_is_no_envelope(value: Any) -> None:
    plain = msgspec.msgpack.encode([VERSION, value, value, value, value, value])
    with pytest.raises(DecodeError):
        open_envelope(plain)


def test_a_body_under_another_envelope_is_noticed() -> None:
    other, body = CODEC.encode(**{**HEAD, "id": "0af3c2"}, call=Call((1, "two"), {"three": [3]}))
    with pytest.raises(DecodeError):
        CODEC.decode(other, BODY)
    assert CODEC.decode(other, body) == CODEC.decode(ENVELOPE, BODY)


@pytest.mark.parametrize("changed", [{"name": "mail.other"}, {"deadline": 5}, {"created": 1}])
def test_every_field_of_the_envelope_is_authenticated(changed: dict[str, Any]) -> None:
    other, _ = CODEC.encode(**{**HEAD, **changed}, call=Call((), {}))
    with pytest.raises(DecodeError):
        CODEC.decode(other, BODY)


def test_an_unknown_version_is_told() -> None:
    newer = msgspec.msgpack.encode([VERSION + 1, "k", "i", "n", 1, None, "a field more"])
    with pytest.raises(
        DecodeError, match=f"version {VERSION + 1} of the .* this pijobs knows versions 1 and {VERSION}"
    ):
        open_envelope(newer)


def test_an_unknown_key_is_told_until_it_is_there() -> None:
    with pytest.raises(DecodeError, match="unknown key"):
        Codec(KeyRing(["other"])).decode(ENVELOPE, BODY)
    assert Codec(KeyRing(["other", "new"])).decode(ENVELOPE, BODY).args == (1, "two")


def test_after_a_rotation_the_new_key_encodes_and_the_old_one_decodes() -> None:
    before = Codec(KeyRing(["old"])).encode(**HEAD, call=Call((1,), {}))
    assert CODEC.decode(*before).args == (1,)
    assert open_envelope(ENVELOPE).key_id == KeyRing(["new"]).newest.id


def test_other_arguments_go_under_the_old_envelope_with_its_key() -> None:
    envelope, _ = Codec(KeyRing(["old"])).encode(**HEAD, call=Call((1,), {}))
    envelope, body = CODEC.reencode(envelope, Call((2,), {"x": "y"}, "label"))
    assert Codec(KeyRing(["old"])).decode(envelope, body) == Call((2,), {"x": "y"}, "label")


def test_an_extension_of_a_newer_version_is_told() -> None:
    key = KeyRing(["new"]).newest
    body = key.encrypt(msgspec.msgpack.encode([[msgspec.msgpack.Ext(99, b"?")], {}, None]), ENVELOPE)
    with pytest.raises(DecodeError, match="unknown extension type 99"):
        CODEC.decode(ENVELOPE, body)


@pytest.mark.parametrize("plain", [b"", b"\xc0", b"\x93\x90\x80", b"\x92\x90\x80", base64.b64decode("kwGAwA==")])
def test_a_body_of_another_shape_is_refused(plain: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(ENVELOPE, KeyRing(["new"]).newest.encrypt(plain, ENVELOPE))


# -- what is bound ---------------------------------------------------------------------------------------------------


def codec_of(queue: str, *keys: str, protocol: int = NEWEST) -> Codec:
    return Codec(KeyRing(keys or ("key",)), queue, lambda: protocol)


def test_until_the_protocol_is_raised_an_envelope_is_what_0_1_0_reads() -> None:
    old, new = (codec_of("q", protocol=number).encode(**HEAD, call=Call((1,), {}))[0] for number in (FIRST, NEWEST))
    assert (msgspec.msgpack.decode(old)[0], len(msgspec.msgpack.decode(old))) == (1, 6)
    assert (msgspec.msgpack.decode(new)[0], len(msgspec.msgpack.decode(new))) == (2, 8)
    assert msgspec.msgpack.decode(old)[2:] == msgspec.msgpack.decode(new)[2:6]


@pytest.mark.parametrize("protocol", [FIRST, NEWEST])
def test_both_formats_are_read(protocol: int) -> None:
    sealed = codec_of("q", protocol=FIRST + NEWEST - protocol).encode(**HEAD, call=Call((1,), {"x": 2}))
    assert codec_of("q", protocol=protocol).decode(*sealed) == Call((1,), {"x": 2})


def test_a_body_of_another_queue_with_the_same_key_is_refused() -> None:
    sealed = codec_of("one").encode(**HEAD, call=Call((1,), {}))
    with pytest.raises(Damaged, match="it belongs to the queue 'one', this one is 'another'"):
        codec_of("another").decode(*sealed)
    with pytest.raises(Damaged):
        codec_of("another").reseal(*sealed)


def test_an_older_body_does_not_fit_after_it_was_replaced() -> None:
    codec = codec_of("q")
    first = codec.encode(**HEAD, call=Call((1,), {}))
    second = codec.reencode(first[0], Call((2,), {}))
    third = codec.reencode(second[0], Call((3,), {}))
    assert codec.decode(*third).args == (3,)
    for old in (first, second):
        with pytest.raises(Damaged):
            codec.decode(third[0], old[1])


@pytest.mark.parametrize("before", [FIRST, NEWEST])
@pytest.mark.parametrize("after", [FIRST, NEWEST])
def test_sealed_anew_it_is_the_same_under_the_newest_key_in_the_present_format(before: int, after: int) -> None:
    sealed = codec_of("q", "old", protocol=before).encode(**HEAD, call=Call((1,), {"x": 2}, "label"))
    again = codec_of("q", "new", "old", protocol=after).reseal(*sealed)
    assert codec_of("q", "new").decode(*again) == Call((1,), {"x": 2}, "label")
    opened, written = open_envelope(again[0]), open_envelope(sealed[0])
    assert opened.version == {FIRST: 1, NEWEST: 2}[after]
    assert (opened.id, opened.name, opened.created, opened.deadline) == (
        written.id, written.name, written.created, written.deadline,
    )  # fmt: skip


def test_what_can_not_be_read_is_not_sealed_anew() -> None:
    sealed = codec_of("q", "old").encode(**HEAD, call=Call((1,), {}))
    with pytest.raises(DecodeError, match="unknown key"):
        codec_of("q", "new").reseal(*sealed)


def test_what_is_under_another_key_than_the_newest_is_remembered() -> None:
    old, lost, ring = KeyRing(["old"]), KeyRing(["lost"]), KeyRing(["new", "old"])
    worker = Codec(ring)

    def decode(under: KeyRing, created: int) -> None:
        worker.decode(*Codec(under).encode(id="i", name="a.b", call=Call((), {}), created=created, deadline=None))

    decode(ring, 1)
    assert worker.other_keys == {}
    for created in (5, 9, 7):
        decode(old, created)
    with pytest.raises(DecodeError):
        decode(lost, 3)
    assert worker.other_keys == {old.newest.id: 9, lost.newest.id: 3}


# -- nothing but DecodeError escapes --------------------------------------------------------------------------------


def ext(code: int, data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


DEEP = b"\x91" * 100_000 + b"\xc0"
#: What somebody with a key could seal, or a release with a fault.
SEALED = {
    "nothing": b"",
    "no call": b"\xc0",
    "a text as arguments": b"\x93\xa3abc\x80\xc0",
    "a mapping as arguments": b"\x93\x80\x80\xc0",
    "pairs as names": b"\x93\x90\x91\x92\xa1a\x01\xc0",
    "a number as a name": b"\x93\x90\x81\x01\x02\xc0",
    "a number as label": b"\x93\x90\x80\x05",
    "four parts": b"\x94\x90\x80\xc0\xc0",
    "deep": b"\x93" + DEEP + b"\x80\xc0",
    "very deep": DEEP,
    "half a pair": b"\x93\x91\xa3\xed\xa0\x80\x80\xc0",
    **{
        f"{code}: {data[:20]!r}": b"\x93\x91" + ext(code, data) + b"\x80\xc0"
        for code in range(14)
        for data in (
            b"", b"\xff", b"sNaN1", b"1E99999999999999999999", b"-", b"2026-13-01", b"9999-12-31T23:59:60",
            b"\xe2\x80\xa8",
            b'["2026-01-01T00:00:00", 0, "../../etc/passwd"]', b'["2026-01-01T00:00:00", 7, [9e99, 0, 0, null]]',
            b'["2026-01-01T00:00:00", 0, "\\u0000"]', b"[" * 100_000, b"\xc4", b"\x91" * 100_000, b"f" * 100_000,
            b"Subject: =?utf-8?q?=0D=0A?=\n\n", b"Content-Type: multipart/mixed; boundary=\xe2\x80\xa8\n\n--",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("version", [1, 99])
@pytest.mark.parametrize("name", SEALED)
def test_sealed_junk_raises_nothing_but_a_decode_error(name: str, version: int) -> None:
    ring = KeyRing(["a secret of thirty-two characters"])
    codec = Codec(ring, "one", lambda: version)
    envelope, _ = codec.encode(id="1", name="a.b", call=Call((), {}), created=1, deadline=None)
    try:
        call = codec.decode(envelope, ring.newest.encrypt(SEALED[name], envelope))
    except DecodeError:
        return
    assert type(call.args) is tuple and all(type(key) is str for key in call.kwargs)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_junk_raises_nothing_but_a_decode_error(data: bytes) -> None:
    ring = KeyRing(["a secret of thirty-two characters"])
    codec = Codec(ring, "one", lambda: 99)
    envelope, body = codec.encode(id="1", name="a.b", call=Call((), {}), created=1, deadline=None)
    for attempt in ((envelope, ring.newest.encrypt(data, envelope)), (data, body), (envelope, data), (data, data)):
        with suppress(DecodeError):
            codec.decode(*attempt)
