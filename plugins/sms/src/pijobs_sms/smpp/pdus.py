"""Encodes and decodes the PDUs of an SMS. Numbers in brackets are sections of the specification."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

_HEADER = struct.Struct(">LLLL")
HEADER = _HEADER.size
#: Most bytes of a PDU; a peer that sends a longer one does not speak SMPP.
MAX_PDU = 64 * 1024
_VERSION = 0x34
#: Flag in ``esm_class`` (5.2.12): the text begins with a user data header.
UDHI = 0x40
_RECEIPT, _KINDS = 0x04, 0x3C

_RECEIPTED_ID, _STATE, _PAYLOAD = 0x001E, 0x0427, 0x0424


class Command(IntEnum):
    """Ids of commands (5.1.2.1). An answer has the id of its request with the highest bit set."""

    GENERIC_NACK = 0x80000000
    BIND_TRANSCEIVER = 0x00000009
    SUBMIT_SM = 0x00000004
    DELIVER_SM = 0x00000005
    UNBIND = 0x00000006
    ENQUIRE_LINK = 0x00000015
    ANSWER = 0x80000000


class Status(IntEnum):
    """The statuses of answers (5.1.3) that we distinguish."""

    ESME_ROK = 0x00
    ESME_RINVCMDID = 0x03
    ESME_RINVBNDSTS = 0x04
    ESME_RALYBND = 0x05
    ESME_RSYSERR = 0x08
    ESME_RINVSRCADR = 0x0A
    ESME_RINVDSTADR = 0x0B
    ESME_RBINDFAIL = 0x0D
    ESME_RINVPASWD = 0x0E
    ESME_RINVSYSID = 0x0F
    ESME_RMSGQFUL = 0x14
    ESME_RSUBMITFAIL = 0x45
    ESME_RINVSYSTYP = 0x53
    ESME_RTHROTTLED = 0x58
    ESME_RX_T_APPN = 0x64
    ESME_RX_P_APPN = 0x65
    ESME_RX_R_APPN = 0x66
    ESME_RDELIVERYFAILURE = 0xFE
    ESME_RUNKNOWNERR = 0xFF


def name_of(status: int) -> str:
    """For people."""
    return Status(status).name if status in list(Status) else f"status 0x{status:08x}"


@dataclass(frozen=True)
class Pdu:
    """One PDU."""

    command: int
    sequence: int
    status: int = 0
    body: bytes = b""

    def encode(self) -> bytes:
        return _HEADER.pack(HEADER + len(self.body), self.command, self.status, self.sequence) + self.body

    def answer(self, status: int = 0, body: bytes = b"") -> Pdu:
        """The answer to it."""
        return Pdu(self.command | Command.ANSWER, self.sequence, status, body)

    @property
    def message_id(self) -> str:
        """The message id in the answer to a submit_sm (4.4.2)."""
        return _text(self.body.partition(b"\0")[0])


def length_of(header: bytes) -> int:
    """Decode a header. :raises ValueError: if it is none of a PDU."""
    length: int = _HEADER.unpack(header)[0]
    if not HEADER <= length <= MAX_PDU:
        raise ValueError(f"expected a PDU of at most {MAX_PDU} bytes, found one of {length}")
    return length


def decode(header: bytes, body: bytes) -> Pdu:
    _, command, status, sequence = _HEADER.unpack(header)
    return Pdu(command, sequence, status, body)


def bind(system_id: str, password: str, system_type: str) -> bytes:
    """Body of a bind_transceiver (4.1.5)."""
    return _strings(system_id, password, system_type) + bytes([_VERSION, 0, 0]) + _strings("")


@dataclass(frozen=True)
class Address:
    """A number or sender name, with type of number and numbering plan (5.2.5, 5.2.6)."""

    ton: int
    npi: int
    value: str

    @classmethod
    def of(cls, text: str) -> Address:
        """Accepts an international number with or without plus, one dialled with zeros, a short code, or a name."""
        digits = text.removeprefix("+")
        if not digits.isdecimal():
            return cls(5, 0, text) if text else cls(0, 0, "")
        if digits.startswith("0"):
            return cls(0, 1, digits)
        return cls(3, 0, digits) if len(digits) < 7 and digits == text else cls(1, 1, digits)

    def encode(self) -> bytes:
        return bytes([self.ton, self.npi]) + _strings(self.value)


def submit(source: Address, destination: Address, text: bytes, coding: int, *, udhi: bool, validity: str = "") -> bytes:
    """Body of a submit_sm (4.4.1) that asks for a delivery receipt.

    :param text: at most 254 bytes. :param coding: see 5.2.19. :param udhi: the text begins with a user data header.
    :param validity: in the format of :func:`relative_time`.
    """
    return (
        _strings("") + source.encode() + destination.encode() + bytes([UDHI if udhi else 0, 0, 0])
        + _strings("", validity) + bytes([1, 0, coding, 0, len(text)]) + text
    )  # fmt: skip


def relative_time(seconds: float) -> str:
    """A relative time (7.1.1.2), at least a second; empty for more than a month, or infinity."""
    if seconds > 28 * 86400:
        return ""
    minutes, second = divmod(max(1, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"0000{day:02}{hour:02}{minute:02}{second:02}000R"


@dataclass(frozen=True)
class Delivery:
    """The parts of a deliver_sm (4.6.1) that report on an SMS."""

    is_receipt: bool
    text: bytes
    options: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, body: bytes) -> Delivery:
        """Decode a body. :raises ValueError: if it is incomplete."""
        try:
            rest = _after_string(body)
            for _ in range(2):
                rest = _after_string(rest[2:])
            esm_class = rest[0]
            rest = _after_string(_after_string(rest[3:]))
            length = rest[4]
            options, text, start = {}, rest[5 : 5 + length], 5 + length
            while start + 4 <= len(rest):
                tag, size = struct.unpack_from(">HH", rest, start)
                options[tag] = rest[start + 4 : start + 4 + size]
                start += 4 + size
        except IndexError:
            raise ValueError("expected a deliver_sm, found one that breaks off") from None
        return cls(esm_class & _KINDS == _RECEIPT, text or options.get(_PAYLOAD, b""), options)

    @property
    def message_id(self) -> str:
        """The message id of the SMS, from the option (5.3.2.12)."""
        return _text(self.options.get(_RECEIPTED_ID, b"").partition(b"\0")[0])

    @property
    def state(self) -> int:
        """The state of the SMS, from the option (5.3.2.35); 0 without it."""
        return int.from_bytes(self.options.get(_STATE, b""), "big")


def _strings(*texts: str) -> bytes:
    return b"".join(text.encode("latin-1", "replace").replace(b"\0", b"") + b"\0" for text in texts)


def _after_string(body: bytes) -> bytes:
    text, end, rest = body.partition(b"\0")
    if not end:
        raise IndexError(text)
    return rest


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip()
