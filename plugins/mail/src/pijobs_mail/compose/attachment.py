"""Attached files, and images of the HTML part."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from pijobs_mail.errors import MessageError

_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9!#$&^_.+-]*", re.IGNORECASE)
_CID = re.compile(r"[A-Za-z0-9._-]+(@[A-Za-z0-9.-]+)?")
_NOT_IN_A_NAME = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029/\\\\]")
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True)
class Attachment:
    """A file of a mail.

    :param name: file name, without folders.
    :param type: such as ``"application/pdf"``; None: derived from the ending of the name.
    :param cid: makes it an image of the HTML part, used there as ``<img src="cid:…">`` (RFC 2392).
    """

    name: str
    content: bytes = field(repr=False)
    type: str | None = None
    cid: str | None = None

    def check(self, name: str, html: str | None) -> None:
        """
        :param name: name of the argument, for the error.
        :param html: the mail's HTML part.
        :raises MessageError: if it can't be attached.
        """
        if not isinstance(self.name, str) or not self.name or _NOT_IN_A_NAME.search(self.name):
            raise MessageError(f"{name}: expected a file name of one line without folders, found something else")
        if not isinstance(self.content, bytes):
            raise MessageError(f"{name}: expected bytes as content, found {type(self.content).__name__}")
        if self.type is not None and (not _TYPE.fullmatch(self.type) or _composite(self.type)):
            raise MessageError(f"{name}: expected a type such as application/pdf, found another one")
        if self.cid is not None:
            self._check_cid(name, html)

    def as_argument(self) -> dict[str, Any]:
        """The file as an argument of a job, with its type: another machine may know other endings."""
        argument = {"name": self.name, "content": self.content, "type": self.full_type}
        return argument if self.cid is None else {**argument, "cid": self.cid}

    @classmethod
    def of(cls, argument: Mapping[str, Any]) -> Attachment:
        """Make it from :meth:`as_argument`. :raises MessageError: if the argument has other fields."""
        try:
            return cls(**argument)
        except TypeError:
            raise MessageError("attachments: expected name, content, and perhaps type and cid, found others") from None

    @property
    def full_type(self) -> str:
        """The MIME type, by Python's own table, since the system's differs by machine."""
        if self.type is not None:
            return self.type.lower()
        guessed, packed = mimetypes.MimeTypes().guess_type(self.name)
        return _UNKNOWN if guessed is None or packed or _composite(guessed) else guessed

    def add_to(self, part: EmailMessage) -> None:
        """Add it to the HTML part if it is an image of that, else to the message."""
        main, _, sub = self.full_type.partition("/")
        if self.cid is None:
            part.add_attachment(self.content, maintype=main, subtype=sub, filename=self.name)
        else:
            part.add_related(
                self.content, maintype=main, subtype=sub, filename=self.name, cid=f"<{self.cid}>", disposition="inline"
            )

    def _check_cid(self, name: str, html: str | None) -> None:
        assert self.cid is not None
        if not _CID.fullmatch(self.cid):
            raise MessageError(f"{name}: expected letters, digits, dots and dashes as cid, found others")
        if not re.search(rf"cid:{re.escape(self.cid)}(?![\w@.-])", html or "", re.IGNORECASE):
            raise MessageError(f'{name}: expected a html part that shows it by "cid:{self.cid}", found none')
        if not self.full_type.startswith("image/"):
            raise MessageError(f"{name}: expected an image where there is a cid, found {self.full_type}")


def _composite(type: str) -> bool:
    """Whether the type is for messages or parts, not for a file (RFC 2045 5)."""
    return type.lower().startswith(("multipart/", "message/"))
