"""Real mail servers for the tests, private ones, with STARTTLS and logins; see :mod:`services`."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import self_signed
from services import START_TIMEOUT, _place, _running, free_port, missing, wait_until
from services import program as find


@dataclass(frozen=True)
class MailServer:
    """A real one, with STARTTLS and logins. :ivar inbox: folder that gets what it delivers, a file per mail."""

    port: int
    inbox: Path
    ca_file: str
    name: str
    login: tuple[str, str] = ("otp@example.com", "hunter2")

    def wait_for(self, count: int) -> list[bytes]:
        """The mails, as soon as there are so many."""
        wait_until(lambda: len(list(self.inbox.rglob("new/*"))) >= count, START_TIMEOUT, what=f"mail {count}")
        return [path.read_bytes() for path in sorted(self.inbox.rglob("new/*"), key=lambda path: path.stat().st_mtime)]


@pytest.fixture
def postfix() -> Iterator[MailServer]:
    """A private Postfix. It runs by root's hand only."""
    with running_postfix() as server:
        yield server


@contextmanager
def running_postfix(settings: str = "", *, postscreen: bool = False) -> Iterator[MailServer]:
    """A private Postfix.

    :param settings: further lines of its main.cf.
    :param postscreen: the clients meet postscreen first.
    """
    program, saslpasswd = find("postfix"), find("saslpasswd2")
    if os.geteuid() != 0:
        missing("root, which Postfix needs to start,")
    with _place() as place:
        place.chmod(0o755)
        server = MailServer(free_port(), place / "inbox", _trusted(place), "Postfix")
        _write_postfix(place, server, settings, postscreen=postscreen)
        address, password = server.login
        user, _, realm = address.partition("@")
        subprocess.run(
            [saslpasswd, "-p", "-c", "-f", str(place / "sasldb2"), "-u", realm, user],
            input=password.encode(), check=True, capture_output=True,
        )  # fmt: skip
        shutil.chown(place / "sasldb2", "postfix")
        with _running([program, "-c", str(place), "start-fg"], place, lambda: _greets(server.port)):
            try:
                yield server
            finally:
                # The process that was started waits for Postfix's own master, and does not pass a signal on.
                subprocess.run([program, "-c", str(place), "abort"], check=True, capture_output=True)


@pytest.fixture
def exim() -> Iterator[MailServer]:
    """A private Exim. It delivers by root's hand only."""
    program = find("exim4")
    if os.geteuid() != 0:
        missing("root, which Exim needs to deliver,")
    with _place() as place:
        place.chmod(0o755)
        server = MailServer(free_port(), place / "inbox", _trusted(place), "Exim")
        for folder in ("spool", "inbox"):
            (place / folder).mkdir()
            shutil.chown(place / folder, "Debian-exim")
        user, password = server.login
        config = place / "exim.conf"
        config.write_text(_EXIM.format(program=program, place=place, user=user, password=password))
        command = [program, "-C", str(config), "-bdf", "-oX", f"127.0.0.1:{server.port}", "-oP", str(place / "pid")]
        with _running(command, place, lambda: _greets(server.port)):
            yield server


_EXIM = """\
exim_path = {program}
spool_directory = {place}/spool
log_file_path = {place}/spool/%slog
primary_hostname = mail.example.com
deliver_drop_privilege = true
tls_advertise_hosts = *
tls_certificate = {place}/server.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = check
acl_smtp_data = accept
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
begin acl
check:
  deny !authenticated = *
  require verify = recipient
  accept domains = example.com
  deny
begin routers
people:
  driver = accept
  domains = example.com
  local_parts = alice : bob
  transport = inbox
begin transports
inbox:
  driver = appendfile
  maildir_format
  directory = {place}/inbox/$local_part_data
  create_directory
  user = Debian-exim
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"""


def _write_postfix(place: Path, server: MailServer, settings: str, *, postscreen: bool) -> None:
    for folder, owner in (("data", "postfix"), ("queue", "root"), ("inbox", "postfix")):
        (place / folder).mkdir()
        shutil.chown(place / folder, owner)
    identity = pwd.getpwnam("postfix")
    (place / "sasl").mkdir()
    (place / "sasl" / "smtpd.conf").write_text(
        f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {place}/sasldb2\nmech_list: PLAIN LOGIN\n"
    )
    (place / "main.cf").write_text(
        f"""\
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/maillog
maillog_file_prefixes = {place}
myhostname = mail.example.com
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = example.com
virtual_mailbox_base = {place}/inbox
virtual_mailbox_maps = inline:{{ alice@example.com=alice/, bob@example.com=bob/ }}
virtual_uid_maps = static:{identity.pw_uid}
virtual_gid_maps = static:{identity.pw_gid}
virtual_minimum_uid = 1
smtpd_tls_security_level = may
smtpd_tls_chain_files = {place}/server.pem
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = example.com
cyrus_sasl_config_path = {place}/sasl
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = reject_unlisted_recipient, permit_sasl_authenticated, reject
smtpd_peername_lookup = no
{settings}
"""
    )
    front = "1 postscreen\nsmtpd pass - - n - - smtpd" if postscreen else "- smtpd"
    services = [
        f"127.0.0.1:{server.port} inet n - n - {front}", "pickup unix n - n 60 1 pickup",
        "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr", "rewrite unix - - n - - trivial-rewrite",
        "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce",
        "virtual unix - n n - - virtual", "error unix - - n - - error", "retry unix - - n - - error",
        "anvil unix - - n - 1 anvil", "proxymap unix - - n - - proxymap", "tlsmgr unix - - n 1000? 1 tlsmgr",
        "postlog unix-dgram n - n - 1 postlogd", "flush unix n - n 1000? 0 flush", "scache unix - - n - 1 scache",
        "showq unix n - n - - showq", "smtp unix - - n - - smtp",
    ]  # fmt: skip
    (place / "master.cf").write_text("\n".join(services) + "\n")


def _trusted(place: Path) -> str:
    """Writes a key with its certificate for 127.0.0.1; the path of the certificate alone, which vouches for itself."""
    self_signed(place, "mail.example.com", "127.0.0.1")
    return str(place / "ca.pem")


def _greets(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        try:
            probe.connect(("127.0.0.1", port))
            return probe.recv(4) == b"220 "
        except OSError:
            return False
