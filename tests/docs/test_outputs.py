"""Each output of a command that the docs show is what the command prints, but for times, ids and numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from docs.outputs import outputs, shape, shown

from pijobs.audit import AuditLog, Entry
from pijobs.base import clock
from pijobs.cli.drill import _tell
from pijobs.cli.main import main
from pijobs.factory import build
from pijobs.jobs import State
from pijobs.observe.drill import Verdict
from pijobs.request.queue import Queue
from pijobs.server.accounts import Accounts
from pijobs.settings import read_config
from pijobs.storage.protocol import NEWEST
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, Lease

Print = Callable[..., list[str]]
#: Those that need more than one process, and the test that compares them.
ELSEWHERE = {
    "pijobs mail probe main": "tests/integration/test_mail_tls.py",
    "pijobs sms demo --once": "tests/integration/test_demos.py",
}
#: Pages whose commands are all typed by a test of their own.
TYPED = {"tutorial/operate.md": "tests/docs/test_operate.py"}
REFUSED = "1 of 1 recipients refused: a***@example.com: 550 5.1.1 no such user"


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "pi.cfg"
    values = {
        "SECRET_KEY": "a test's", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_PLUGINS": ("mail",),
        "PI_JOB_QUEUE_URL": f"sqlite:///{tmp_path}/queue.sqlite",
    }  # fmt: skip
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
    config.chmod(0o600)
    monkeypatch.setenv("PRIVACYIDEA_CONFIGFILE", str(config))
    return build(read_config(config), directory=tmp_path).queue


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Print:
    def type(*arguments: str) -> list[str]:
        with pytest.raises(SystemExit):
            main(list(arguments))
        return capsys.readouterr().out.splitlines()

    return type


def alike(found: list[str], expected: list[str]) -> bool:
    return [shape(line) for line in found] == [shape(line) for line in expected]


def a_worker(queue: Queue, pid: int) -> SessionInfo:
    storage = queue.present_storage()
    info = SessionInfo(f"s{pid}", "jobs1.example.com", pid, storage.now(), "0.2.0", protocol=NEWEST)
    storage.open_session(info, lease=60_000)
    return info


def a_mail(queue: Queue, server: str = "main") -> str:
    mail = {"server": server, "to": "alice@example.com", "subject": "Your code", "text": "490137"}
    return queue.enqueue("mail.send", (), mail).id


def begun(queue: Queue, session: str, server: str = "main") -> Lease:
    a_mail(queue, server)
    (lease,) = queue.present_storage().step(session, [], want=1).leases
    return lease


def a_dead_mail(queue: Queue, reason: str) -> None:
    session = a_worker(queue, 1).id
    lease = begun(queue, session)
    queue.present_storage().step(session, [End(lease.id, lease.token, State.DEAD, reason=reason)], want=0)


def test_each_output_is_made_by_a_test() -> None:
    here = Path(__file__).read_text()
    left = [
        (page, command)
        for page, command, _ in outputs()
        if page not in TYPED
        and not any(command.startswith(one) for one in ELSEWHERE)
        and f'"{command[:24]}' not in here
    ]
    assert left == []
    for command, file in ELSEWHERE.items():
        assert f'shown("{command}")' in (Path(__file__).parents[2] / file).read_text(), command


def test_failures(queue: Queue, printed: Print) -> None:
    a_dead_mail(queue, "the relay is down")
    assert alike(printed("failures", "--since", "2h"), shown("pijobs failures --since 2h"))


def test_find(queue: Queue, printed: Print) -> None:
    a_dead_mail(queue, REFUSED)
    [line] = printed("jobs", "find", "alice@example.com")
    begin = shown("pijobs jobs find alice@ex")[0].removesuffix("…")
    assert shape(line).startswith(shape(begin))


def test_quiet(queue: Queue, printed: Print, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, workers = queue.present_storage(), [a_worker(queue, pid) for pid in (1, 2)]
    leases = [begun(queue, workers[0].id, server) for server in ("main", "second", "third")]

    def meanwhile(seconds: float) -> None:
        storage.step(workers[0].id, [End(lease.id, lease.token, State.DONE) for lease in leases], want=0)
        for session in storage.sessions():
            storage.update_session(replace(session.info, resting=session.info.quiet))

    monkeypatch.setattr(clock, "sleep", meanwhile)
    assert alike(printed("quiet", "jobs1.example.com"), shown("pijobs quiet jobs1.examp"))


def test_audit(queue: Queue, printed: Print) -> None:
    log, ids = AuditLog.of(queue.settings), ("5f1c", "80aa", "c3d1")
    log.record(
        Entry("job.retry", who="alice", role="operator", address="192.0.2.7", on="3 of 3", fields=ids,
              reason="the relay is back")
    )  # fmt: skip
    assert alike(printed("audit", "list", "--act", "job."), shown("pijobs audit list --act "))
    assert alike(printed("audit", "verify"), shown("pijobs audit verify"))


def test_accounts_and_tokens(queue: Queue, printed: Print) -> None:
    Accounts.of(queue.settings).add("root", "correct horse battery", "admin")
    assert alike(printed("admin", "second-factor", "root", "--require"), shown("pijobs admin second-fact"))
    token = printed("admin", "token", "add", "shop", "--scope", "enqueue:mail.send", "--days", "90")
    assert alike(token, shown("pijobs admin token add s"))


@pytest.mark.parametrize(("command", "things"), [("pijobs drill", "mails"), ("pijobs drill sms", "SMS")])
def test_drill(command: str, things: str, capsys: pytest.CaptureFixture[str]) -> None:
    """That a drill comes to this verdict is told by tests/acceptance/test_drill.py."""
    _tell(Verdict(things, 50, 50, 4, {"p50": 0.02, "p95": 0.05, "p99": 0.07}))
    [expected] = [lines for _, found, lines in outputs() if found == command]
    assert alike(capsys.readouterr().out.splitlines(), expected)
