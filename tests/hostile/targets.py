"""What takes hostile inputs: each target is given one, and answers by the exceptions that it tells, and no others."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import flask
import msgspec
from integration.served import Client, make_app, settings_of
from integration.visits import Visit
from werkzeug.datastructures import MultiDict

from hostile.inputs import SECRET, Inputs
from pijobs.base.known_texts import Known
from pijobs.base.redact import describe, redact
from pijobs.cli.main import main
from pijobs.errors import ConfigurationError, DecodeError, DefinitionError, PijobsError
from pijobs.factory import configure
from pijobs.payload.codec import Call, Codec
from pijobs.payload.keys import KeyRing
from pijobs.settings import read_config
from pijobs.storage.sessions import SessionInfo
from pijobs_mail.alerts import webhook as webhooks
from pijobs_mail.compose.message import Letter, compose
from pijobs_mail.engine import verdicts
from pijobs_mail.engine.features import parse_features
from pijobs_mail.engine.oauth import read_refusal
from pijobs_mail.engine.replies import ProtocolError, Replies, Reply, Step
from pijobs_mail.errors import MessageError
from pijobs_mail.servers.definitions import DEFINITIONS
from pijobs_mail.servers.definitions import open_store as open_servers
from pijobs_sms import webhook
from pijobs_sms.answers import Answer, retry_after
from pijobs_sms.errors import SmsError
from pijobs_sms.gateways import Gateways
from pijobs_sms.numbers import normalize
from pijobs_sms.smpp.pdus import HEADER, MAX_PDU, Command, Pdu
from pijobs_sms.smpp.receipts import take_receipt

DATE = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
KNOWING: Any = SimpleNamespace(tell=lambda *_, **__: "an instance")
SETTINGS: Any = SimpleNamespace(resource=lambda *_: KNOWING)
GATEWAY = {"success": "^OK", "failure": "no|bad", "busy": "slow", "json_path": "status.code"}


class Leak(AssertionError):
    """A secret stands in what people read."""


@dataclass(frozen=True)
class Target:
    """:ivar share: of all inputs; slow ones have little. :ivar answers: exceptions that it may raise."""

    share: int
    take: Callable[[Inputs], object]
    answers: tuple[type[BaseException], ...] = ()


def told(text: object) -> None:
    """:raises Leak: where the secret can be read."""
    if SECRET.lower() in str(text).lower():
        raise Leak(str(text)[:200])


# -- what is sealed, and strangers' texts ------------------------------------------------------------------------------

_RING = KeyRing(["k" * 40])
_CODEC = Codec(_RING, "q", lambda: 2)
_ENVELOPE, _BODY = _CODEC.encode(id="i", name="mail.send", call=Call((), {"a": [1, "x", None]}), created=0, deadline=9)


def sealed(inputs: Inputs) -> None:
    pick = inputs.random.randrange(4)
    if pick == 0:
        _CODEC.decode(inputs.mutated(_ENVELOPE), _BODY)
    elif pick == 1:
        _CODEC.decode(_ENVELOPE, inputs.mutated(_BODY))
    else:  # by somebody with the key
        plain = inputs.octets()
        if pick == 2:
            with contextlib.suppress(Exception):
                values = [inputs.value(), {inputs.text(): inputs.value()}, None]
                plain = inputs.mutated(msgspec.msgpack.encode(values))
        _CODEC.decode(_ENVELOPE, _RING.newest.encrypt(plain, _ENVELOPE))


def smtp_reply(inputs: Inputs) -> None:
    replies = Replies()
    for _ in range(inputs.random.randrange(1, 4)):
        replies.feed(inputs.random.choice((b"450 ", b"250-", b"334 ", b"", b"999 ")) + inputs.octets() + b"\r\n")
        replies.take()


def smtp_verdict(inputs: Inputs) -> None:
    answer = Reply(inputs.random.choice((220, 250, 354, 421, 450, 535, 550, 999)), "4.7.1", (inputs.text(), SECRET))
    for step in Step:
        verdicts.judge(answer, step)
    verdicts.retry_after(answer)
    verdicts.mail_id(answer)
    told(answer.without(SECRET, "user"))
    parse_features(Reply(250, "", ("mx", inputs.text(), f"AUTH {inputs.text()}", f"SIZE {inputs.text()}")))


def token_answer(inputs: Inputs) -> None:
    read_refusal(400, inputs.json(), "login.example.com")


def gateway_answer(inputs: Inputs) -> None:
    headers = {
        "Content-Type": inputs.random.choice(("application/json", "text/plain; charset=hex", inputs.text()[:80]))
    }
    content = inputs.json() if inputs.random.random() < 0.5 else inputs.octets()
    retry_after(inputs.text())
    Answer.of(inputs.random.choice((200, 202, 400, 429, 500)), headers, content).judged(GATEWAY)


def receipt(inputs: Inputs) -> None:
    gateway = {"identifier": "main", **{field.name: field.default for field in webhook.FIELDS}}
    content = inputs.json() if inputs.random.random() < 0.5 else b""
    form = {} if content else {"id": inputs.text(), "status": inputs.text()}
    request = SimpleNamespace(
        args=MultiDict(), form=MultiDict(form), is_json=bool(content), get_data=lambda **_: content
    )
    webhook.take(SETTINGS, gateway, request)  # type: ignore[arg-type]


def smpp(inputs: Inputs) -> None:
    begin = b"\0" + b"\1\1 123\0" * 2 + bytes([4, 0, 0]) + b"\0\0" + bytes(4)
    body = (begin + inputs.octets() if inputs.random.random() < 0.6 else inputs.octets())[: MAX_PDU - HEADER]
    take_receipt(KNOWING, "main", Pdu(Command.DELIVER_SM, 1, 0, body))
    _ = Pdu(Command.SUBMIT_SM, 1, 0, body).message_id


def worker_facts(inputs: Inputs) -> None:
    SessionInfo.read(inputs.json().decode("utf-8", "replace"))


_ENCODINGS: tuple[Callable[[str], str], ...] = (
    str, lambda text: quote(text, safe=""), lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: text.encode().hex(), lambda text: json.dumps(text)[1:-1],
    lambda text: "".join(f"&#{ord(one)};" for one in text),
    lambda text: "".join(f"={octet:02X}" for octet in text.encode()),
    lambda text: "".join(f"%{octet:02x}" for octet in text.encode()),
)  # fmt: skip
#: Under an encoding; upon one they would destroy it.
_SPELLINGS: tuple[Callable[[str], str], ...] = (
    *_ENCODINGS, str.upper, str.lower, str.swapcase, " ".join,
    lambda text: "-".join(text[at : at + 3] for at in range(0, len(text), 3)),
)  # fmt: skip
_KNOWN = Known(["Dear Alice"], [SECRET])


def masks(inputs: Inputs) -> None:
    written = inputs.random.choice(_ENCODINGS)(inputs.random.choice(_SPELLINGS)(SECRET))
    around = "".join(inputs.random.choices("ab =&\"<>';:,.()x?/", k=inputs.random.randrange(30)))
    shown = redact(f"{around[:15]} {written} {around[15:]}", _KNOWN)
    told(shown)
    if written in shown:
        raise Leak(written)
    told(describe(ValueError(f"{inputs.text()} {written}"), _KNOWN))


# -- what is typed -----------------------------------------------------------------------------------------------------


def letter(inputs: Inputs) -> None:
    made = Letter(
        to=(inputs.text() if inputs.random.random() < 0.4 else f"{inputs.text()[:80]} <bob@example.com>",),
        subject=inputs.text(), text=inputs.text(), html=inputs.random.choice((None, inputs.text())),
    )  # fmt: skip
    made.check()
    content = compose(made, sender="me@example.com", message_id="<1@example.com>", date=DATE)
    head = content.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    names = {line.partition(":")[0].lower() for line in head.split("\r\n") if line[:1] not in (" ", "\t")}
    foreign = names - {
        "from", "to", "subject", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding",
        "auto-submitted", "x-auto-response-suppress",
    }  # fmt: skip
    if foreign:
        raise AssertionError(f"headers that nobody meant: {foreign}")


def number(inputs: Inputs) -> None:
    normalize(inputs.text(), inputs.random.choice(("", "DE", "US", inputs.text()[:3])))


class Served:
    """A server with people on it, and a ``pi.cfg`` with the same settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app: flask.Flask = make_app(
            folder, PLUGINS=("mail", "sms", "statistics"), STATISTICS_JOURNAL=str(folder / "journal")
        )
        self.client, self.viewer = Client(self.app, "admin"), Client(self.app, "viewer")
        self.visit = Visit(self.app)
        self.token = self.visit.token()
        settings = settings_of(self.app)
        place = {"server": "127.0.0.1", "port": 1, "username": "u", "password": SECRET}
        open_servers(settings).save("main", {**place, "sender": "a@example.com", "enqueue_job": True, "timeout": 0.2})
        self.gateways = Gateways.of(settings).declaration
        self.gateways.open(settings).save("main", {
            "url": "http://127.0.0.1:1/", "headers": {"X-Key": SECRET}, "parameters": {"to": "{phone}"},
            "enqueue_job": True,
        })  # fmt: skip
        self.rules = [
            (method, rule.rule)
            for rule in self.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
            # They would end the sessions of this hunt.
            if not rule.rule.endswith(("/sign-out", "/end-all", "/account/end"))
            and (method, rule.rule) != ("DELETE", "/auth")
        ]
        self.names = (
            "identifier", "reason", "recipient", "phone", "state", "limit", "cursor", "name", "group", "subject", "id",
            "action", "username", "otp", "next", "code", "label", "credential", "preset", "provider", "new", "before",
            "who", "act", "after", "everywhere", "since", "until", "job", "status", "receipt_password",
            *DEFINITIONS.fields_of({}), *self.gateways.fields_of({"provider": "http"}),
        )  # fmt: skip
        self.cfg = folder / "pi.cfg"
        self.cfg.write_text(
            f"SECRET_KEY = '{'k' * 40}'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\n"
            f"PI_JOB_QUEUE_URL = 'sqlite:///{folder}/cli.sqlite'\nPI_JOB_QUEUE_PLUGINS = ['mail', 'sms']\n"
            f"SQLALCHEMY_DATABASE_URI = 'sqlite:///{folder}/cli-definitions.sqlite'\n"
        )
        self.cfg.chmod(0o600)
        self.commands = (
            ("jobs", "list"), ("jobs", "show"), ("jobs", "cancel"), ("jobs", "retry"), ("jobs", "purge"), ("status",),
            ("workers",), ("groups",), ("pause",), ("resume",), ("audit", "list"), ("admin", "add"),
            ("admin", "remove"),
            ("mail", "preset"), ("config", "show"), ("keys", "list"), ("schedule",), ("plugins",),
        )  # fmt: skip

    def definition(self, inputs: Inputs) -> None:
        server = inputs.random.random() < 0.5
        declaration = DEFINITIONS if server else self.gateways
        names = tuple(declaration.fields_of({"provider": inputs.random.choice(("http", "smpp", "smtp"))}))
        given = {**inputs.fields(names), "password": inputs.random.choice((SECRET, f"{SECRET} {inputs.text()}"))}
        try:
            values = declaration.validate(given, {}, {})
            [*declaration.in_clear({"identifier": "x", **values}, settings_of(self.app))]
        except DefinitionError as error:
            told(error)

    def request(self, inputs: Inputs) -> None:
        """The API and the pages, by an admin, a viewer and strangers."""
        method, rule = inputs.random.choice(self.rules)
        if inputs.random.random() < 0.05:
            method = inputs.random.choice(("PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"))
        part = inputs.random.choice(("main", "x", "a" * 32, inputs.text()[:200]))
        path = rule
        for name in ("<id>", "<identifier>", "<path:name>"):
            path = path.replace(name, quote(part.encode("utf-8", "surrogatepass"), safe=""))
        fields = inputs.fields(self.names)
        if inputs.random.random() < 0.3:
            fields["password"] = SECRET
        headers = {
            "Authorization": inputs.random.choice((self.client.token, self.client.token, self.viewer.token, "x"))
        }
        if inputs.random.random() < 0.1:
            headers["HX-Request"] = "true"
        options: dict[str, Any] = {}
        pages = rule.startswith("/pages")
        if inputs.random.random() < 0.3:
            query = {name: str(value) for name, value in inputs.fields(self.names).items() if name not in self.secrets}
            options["query_string"] = {
                name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
                for name, value in query.items()
            }
        if method not in ("GET", "HEAD"):
            if pages:
                options["data"] = {
                    "csrf_token": self.token,
                    **{
                        name.encode("utf-8", "replace").decode(): str(value).encode("utf-8", "replace")
                        for name, value in fields.items()
                        if name
                    },
                }
            elif inputs.random.random() < 0.7:
                body = json.dumps(fields).encode() if inputs.random.random() < 0.7 else inputs.json()
                options |= {"data": body, "content_type": "application/json"}
            else:
                options["data"] = inputs.octets()
        client = self.visit.client if pages and inputs.random.random() < 0.8 else self.app.test_client()
        answer = client.open(path or "/", method=method, headers=None if pages else headers, **options)
        if answer.status_code == 500:
            raise AssertionError(f"500: {method} {path[:100]} {options}"[:600])
        told(answer.get_data(as_text=True))
        told(answer.headers)

    @property
    def secrets(self) -> frozenset[str]:
        return DEFINITIONS.secrets | self.gateways.secrets

    def config(self, inputs: Inputs) -> None:
        table = self.table
        values: dict[str, Any] = {
            "SECRET_KEY": "k" * 40, "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_PLUGINS": ("mail", "sms"),
        }  # fmt: skip
        for _ in range(inputs.random.randrange(1, 4)):
            name = inputs.random.choice(table)
            urls = (f"redis://:{SECRET}@", f"redis//:{SECRET}@h", f"postgresql+psycopg://u:{SECRET}@h:", SECRET)
            url = inputs.random.choice(urls) + inputs.text()[:40]
            values[name] = url if inputs.random.random() < 0.3 else inputs.value()
        try:
            found = configure(values, directory=self.folder).settings
        except PijobsError as error:
            told(error)
            return
        told(found.shown() if SECRET not in str(values.get("PI_JOB_QUEUE_NAME")) else "")

    @property
    def table(self) -> list[str]:
        shown = {"PI_JOB_QUEUE_CLASS", "PI_JOB_QUEUE_PLUGINS", "PI_LOGCONFIG"}
        names = [
            name for name, row in settings_of(self.app).table.items()
            if name not in shown and (row.secret or name.endswith(("URL", "URI", "DATABASE", "PASSWORD")))
        ]  # fmt: skip
        return [*names, *(f"PI_JOB_QUEUE_{name}" for name in ("LEASE", "JOBS", "BOUNDS", "KEEP_FINISHED"))]

    def file(self, inputs: Inputs) -> None:
        place = self.folder / "hostile.cfg"
        place.write_bytes(inputs.mutated(self.cfg.read_bytes()))
        read_config(place)

    def command(self, inputs: Inputs) -> None:
        arguments = [*inputs.random.choice(self.commands)]
        for _ in range(inputs.random.randrange(3)):
            options = ("--json", "--state", "--name", "--group", "--subject", "--reason", "--yes", "--role", "--limit")
            arguments.append(inputs.random.choice((*options, inputs.text()[:100])))
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            main(["--config", str(self.cfg), *(one.encode("utf-8", "replace").decode() for one in arguments)])


class Liar:
    """A web server that answers by bytes of the hunt's."""

    def __init__(self) -> None:
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook/{SECRET}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(2)
                    connection.recv(65536)
                    connection.sendall(self.answer)

    def take(self, inputs: Inputs) -> None:
        begin = (
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 ",
            b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            b"",
        )
        self.answer = inputs.random.choice(begin) + inputs.octets()
        try:
            webhooks.post(self.url, {"text": inputs.text()}, patience=5)
        except webhooks.WebhookFailed as error:
            told(error)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def targets(folder: Path) -> Iterator[dict[str, Target]]:
    """All of them, by name."""
    served, liar = Served(folder), Liar()
    try:
        yield {
            "sealed": Target(200, sealed, (DecodeError,)),
            "SMTP replies": Target(150, smtp_reply, (ProtocolError,)),
            "verdicts of replies": Target(60, smtp_verdict),
            "answers of token servers": Target(80, token_answer),
            "answers of gateways": Target(150, gateway_answer, (SmsError,)),
            "receipts by HTTP": Target(80, receipt),
            "receipts by SMPP": Target(80, smpp),
            "facts of workers": Target(50, worker_facts),
            "masks": Target(60, masks),
            "letters": Target(20, letter, (MessageError,)),
            "phone numbers": Target(30, number, (SmsError,)),
            "definitions": Target(60, served.definition),
            "requests": Target(40, served.request),
            "settings": Target(4, served.config),
            "files of settings": Target(20, served.file, (ConfigurationError,)),
            "commands": Target(1, served.command, (SystemExit,)),
            "answers of webhooks": Target(2, liar.take),
        }
    finally:
        liar.close()
