"""More real mail servers for the tests, without TLS; see :mod:`mail_servers`.

OpenSMTPD and Sendmail have their spools and users at fixed places, so each runs in namespaces of its own, in which
these places are private ones.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRWPair
from pathlib import Path

import pytest
from listening import Listening
from mail_servers import MailServer, _greets, running_postfix
from programs import BESIDE
from services import START_TIMEOUT, _listens, _place, _running, free_port, missing, program, wait_until

#: Of Postfix: no login asked for, and the recipients decide.
OPEN = "smtpd_relay_restrictions = reject_unauth_destination\nsmtpd_recipient_restrictions = reject_unlisted_recipient"


@contextmanager
def in_namespaces(script: str, place: Path, port: int) -> Iterator[None]:
    """Run a script of the shell, as root, with mounts, processes and a host name of its own, until it greets."""
    if os.geteuid() != 0:
        missing("root, which namespaces need,")
    log = place / "log"
    private = ["--mount", "--uts", "--pid", "--fork", "--kill-child"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [program("unshare"), *private, program("sh"), "-e", "-c", script],
            cwd=place, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:

        def up() -> bool:
            if server.poll() is not None:
                pytest.fail(f"it ended with {server.returncode}: {log.read_text(errors='replace')[-2000:]}")
            return _greets(port)

        wait_until(up, START_TIMEOUT, what=f"the start of a mail server: {script.splitlines()[-1]}")
        yield
    finally:
        server.send_signal(signal.SIGKILL)  # and with it all that it started
        server.wait()


def _users(place: Path, users: dict[str, int]) -> str:
    """Lines of the script that make users, in its own view alone."""
    for name, line in (("passwd", "{0}:x:{1}:{1}::" + str(place) + "/home:/bin/sh\n"), ("group", "{0}:x:{1}:\n")):
        shutil.copy(f"/etc/{name}", place / name)
        with (place / name).open("a") as file:
            file.writelines(line.format(user, number) for user, number in users.items())
    return f"mount --bind {place}/passwd /etc/passwd\nmount --bind {place}/group /etc/group\n"


@contextmanager
def opensmtpd(settings: str = "") -> Iterator[MailServer]:
    """OpenSMTPD. :param settings: further lines of its configuration."""
    smtpd, mount = program("smtpd"), program("mount")
    helpers = Path(smtpd).parents[1] / "libexec/opensmtpd"
    with _place() as place:
        place.chmod(0o755)
        for folder in ("inbox", "home"):
            (place / folder).mkdir()
            os.chown(place / folder, 903, 903)
        server = MailServer(free_port(), place / "inbox", "", "OpenSMTPD")
        (place / "smtpd.conf").write_text(
            f"{settings}\nlisten on 127.0.0.1 port {server.port} hostname mail.example.com\n"
            f'table people {{ "alice@example.com" = vmail, "bob@example.com" = vmail }}\n'
            f'action inbox maildir "{place}/inbox" virtual <people>\n'
            'match from any for domain "example.com" action inbox\n'
        )
        script = _users(place, {"opensmtpd": 901, "opensmtpq": 902, "vmail": 903}) + "".join(
            f"{mount} -t tmpfs none {folder}\n" for folder in ("/var/spool", "/run", "/usr/libexec", "/var/lib")
        )
        script += "mkdir -p /var/spool/smtpd /var/lib/opensmtpd/empty\nchmod 711 /var/spool/smtpd\n"
        script += f"cp -r {helpers} /usr/libexec/\nexec {smtpd} -d -f {place}/smtpd.conf"
        with in_namespaces(script, place, server.port):
            yield server


_SENDMAIL = """\
divert(0)
OSTYPE(`linux')dnl
define(`confPID_FILE',`{place}/pid')dnl
define(`QUEUE_DIR',`{place}/queue')dnl
define(`STATUS_FILE',`{place}/status')dnl
define(`ALIAS_FILE',`{place}/aliases')dnl
define(`confDOMAIN_NAME',`mail.example.com')dnl
define(`confDONT_BLAME_SENDMAIL',`GroupWritableDirPathSafe')dnl
define(`confREFUSE_LA',`10000')dnl
define(`confQUEUE_LA',`10000')dnl
define(`LOCAL_MAILER_PATH',`{place}/deliver')dnl
define(`LOCAL_MAILER_ARGS',`deliver $u')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`nocanonify')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA, Port={port}, Addr=127.0.0.1')dnl
{settings}
MAILER(`local')dnl
MAILER(`smtp')dnl
LOCAL_CONFIG
Cwexample.com
"""
_NAMES = {
    "hosts": "127.0.0.1 mail.example.com localhost\n",
    "resolv.conf": "nameserver 127.0.0.1\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\naliases: files\n",
}


@contextmanager
def sendmail(settings: str = "") -> Iterator[MailServer]:
    """Sendmail. :param settings: further lines of its macros."""
    path, m4, mount = Path(program("praliases")).with_name("sendmail"), program("m4"), program("mount")
    macros = BESIDE / "sendmail-cf/usr/share/sendmail/cf"
    with _place() as place:
        place.chmod(0o755)
        (place / "inbox/new").mkdir(parents=True)
        (place / "queue").mkdir(mode=0o700)
        for folder in ("inbox", "inbox/new"):
            (place / folder).chmod(0o777)
        server = MailServer(free_port(), place / "inbox", "", "Sendmail")
        name = "name=$$.$(date +%s%N)\ncat > /mnt/inbox/$name\nexec mv /mnt/inbox/$name /mnt/inbox/new/\n"
        (place / "deliver").write_text(f"#!/bin/sh\n{name}")
        (place / "deliver").chmod(0o755)
        (place / "aliases").write_text("root: alice\n")
        # Sendmail trusts no place below a folder that everybody may write to, so it knows this one as /mnt.
        (place / "sendmail.mc").write_text(_SENDMAIL.format(place="/mnt", port=server.port, settings=settings))
        made = subprocess.run(
            [m4, f"-D_CF_DIR_={macros}/", f"{macros}/m4/cf.m4", f"{place}/sendmail.mc"],
            check=True, capture_output=True, cwd=place,
        )  # fmt: skip
        (place / "sendmail.cf").write_bytes(made.stdout)
        script = _users(place, {"alice": 904, "bob": 905, "smmta": 906, "smmsp": 907})
        for name, text in _NAMES.items():
            (place / name).write_text(text)
            script += f"{mount} --bind {place}/{name} /etc/{name}\n"
        script += f"hostname mail.example.com\n{mount} -t tmpfs none /run\n{mount} --bind {place} /mnt\n"
        script += f"{path} -C /mnt/sendmail.cf -bi\nexec {path} -C /mnt/sendmail.cf -bD"
        with in_namespaces(script, place, server.port):
            yield server


@contextmanager
def dovecot(mechanisms: str = "plain login") -> Iterator[MailServer]:
    """Dovecot's submission server in front of a Postfix. :param mechanisms: of logins, separated by blanks."""
    path = program("dovecot")
    if os.geteuid() != 0:
        missing("root, which Dovecot needs,")
    with running_postfix(OPEN) as behind, _place() as place:
        place.chmod(0o755)
        server = MailServer(free_port(), behind.inbox, "", "Dovecot", behind.login)
        user, password = server.login
        (place / "users").write_text(f"{user}:{{PLAIN}}{password}:65534:65534::{place}::\n")
        (place / "dovecot.conf").write_text(
            f"""\
protocols = submission
base_dir = {place}/run
log_path = {place}/dovecot.log
ssl = no
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
submission_relay_host = 127.0.0.1
submission_relay_port = {behind.port}
hostname = mail.example.com
mail_location = maildir:{place}/mail
default_internal_user = dovecot
passdb {{
  driver = passwd-file
  args = {place}/users
}}
userdb {{
  driver = passwd-file
  args = {place}/users
}}
service submission-login {{
  inet_listener submission {{
    address = 127.0.0.1
    port = {server.port}
  }}
}}
"""
        )
        with _running([path, "-F", "-c", str(place / "dovecot.conf")], place, lambda: _greets(server.port)):
            yield server


@contextmanager
def greylisting_postfix(seconds: int) -> Iterator[MailServer]:
    """Postfix with postgrey."""
    path, port = program("postgrey"), free_port()
    if os.geteuid() != 0:
        missing("root, which Postfix needs to start,")
    with _place("postgrey") as place:
        command = [path, f"--inet=127.0.0.1:{port}", f"--delay={seconds}", f"--dbdir={place}", "--user=postgrey"]
        asks = f"{OPEN}, check_policy_service inet:127.0.0.1:{port}"
        with _running(command, place, lambda: _listens(port)), running_postfix(asks) as server:
            yield server


class Milter(Listening):
    """A filter by the protocol of Sendmail's milters. It sees the end of each mail only, and says what it is told to.

    :ivar says: ``a`` accepts the mail, ``t`` defers it, ``r`` refuses it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.says = "a"

    def talk(self, stream: BufferedRWPair) -> None:
        while True:
            (size,) = struct.unpack("!I", stream.read(4))
            command = stream.read(size)[:1]
            if command == b"O":  # version 6, no changes of mails, no events but the end
                answer = struct.pack("!cIII", b"O", 6, 0, 0x37F)
            elif command == b"E":
                answer = self.says.encode()
            else:
                continue
            stream.write(struct.pack("!I", len(answer)) + answer)
            stream.flush()


@contextmanager
def haraka() -> Iterator[MailServer]:
    """Haraka, from npm: installed at its first use."""
    npm, node, home = program("npm"), program("node"), BESIDE / "haraka"
    start = home / "node_modules/Haraka/bin/haraka"
    if not start.exists():
        home.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(home), "Haraka@3.3.4"]
        subprocess.run(command, check=True, capture_output=True)
    with _place() as place:
        server = MailServer(free_port(), place / "inbox", "", "Haraka")
        (place / "inbox/new").mkdir(parents=True)
        shutil.copytree(home / "node_modules/Haraka/config", place / "config")
        (place / "plugins").mkdir()
        files = {
            "config/smtp.ini": f"listen=127.0.0.1:{server.port}\nnodes=0\n",
            "config/plugins": "rcpt_to.in_host_list\ninbox\n",
            "config/host_list": "example.com\n",
            "config/me": "mail.example.com\n",
            "config/internalcmd_key": "x\n",
            "plugins/inbox.js": _INBOX % str(place / "inbox/new"),
        }
        for name, text in files.items():
            (place / name).write_text(text)
        with _running([node, str(start), "-c", str(place)], place, lambda: _greets(server.port)):
            yield server


_INBOX = """\
const fs = require('fs');
exports.hook_queue = function (next, connection) {
  const mail = connection.transaction;
  mail.message_stream.pipe(fs.createWriteStream('%s/' + mail.uuid)).on('finish', () => next(OK));
};
"""
