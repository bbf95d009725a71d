"""``pijobs move``: what waits goes from one storage to another, each once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pijobs.cli.main import main
from pijobs.factory import build
from pijobs.jobs import State
from pijobs.request.queue import Queue
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, NewInstance

Move = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(name: str, database: str = "") -> Path:
        path = tmp_path / f"{name}.cfg"
        path.touch(0o600)
        path.write_text(
            "SECRET_KEY = 'one secret key, thirty-two bytes'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\n"
            "PI_JOB_QUEUE_PLUGINS = ['mail']\n"
            f"PI_JOB_QUEUE_URL = 'sqlite:///{tmp_path}/{database or name}.sqlite'\n"
        )
        return path

    return write


@pytest.fixture
def move(capsys: pytest.CaptureFixture[str]) -> Move:
    """Run the command; its exit code, and what it printed to both."""

    def run(old: Path, new: Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["--config", str(new), "move", str(old)])
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def queue_of(config: Path) -> Queue:
    from pijobs.settings import read_config

    return build(read_config(config), directory=config.parent).queue


def mail(queue: Queue, text: str, **options: object) -> str:
    arguments = {"server": "main", "to": "bob@example.com", "subject": "s", "text": text, "sender": "a@example.com"}
    return queue.enqueue("mail.send", kwargs=arguments, **options).id  # type: ignore[arg-type]


def test_what_waits_is_moved_with_its_id_and_times(config: Callable[[str], Path], move: Move) -> None:
    old, new = config("old"), config("new")
    first = queue_of(old)
    ids = [mail(first, str(number)) for number in range(60)]
    later = mail(first, "later", delay=600)
    due = first.storage.get(later).due  # type: ignore[union-attr]
    code, told, _ = move(old, new)
    assert (code, told.split(" from ")[0]) == (0, "61 instances moved")
    storage = queue_of(new).storage
    assert storage is not None
    assert {storage.get(one).state for one in ids} == {State.QUEUED}
    assert storage.get(later).state is State.SCHEDULED and abs(storage.get(later).due - due) < 1000
    assert not queue_of(old).storage.depths().counts  # type: ignore[union-attr]


def test_within_one_storage_nothing_is_moved_nor_lost(config: Callable[..., Path], move: Move, tmp_path: Path) -> None:
    (tmp_path / "alias.sqlite").symlink_to(tmp_path / "old.sqlite")
    old, alias = config("old"), config("new", "alias")
    one = mail(queue_of(old), "text")
    code, _, told = move(old, alias)
    assert code == 2 and "expected the pi.cfg of another storage, found the present one" in told
    assert queue_of(old).storage.get(one).state is State.QUEUED  # type: ignore[union-attr]


def test_not_while_a_worker_lives_there(config: Callable[[str], Path], move: Move) -> None:
    old, new = config("old"), config("new")
    storage = queue_of(old).storage
    assert storage is not None
    storage.open_session(SessionInfo("s", "host.example", 4711, started=storage.now(), version="1.0"), lease=60_000)
    code, _, told = move(old, new)
    assert code == 1 and "expected no worker on the old storage, found host.example pid 4711" in told


def test_what_was_begun_stays_and_is_told(config: Callable[[str], Path], move: Move) -> None:
    old, new = config("old"), config("new")
    first = queue_of(old)
    assert first.storage is not None
    mail(first, "text")
    dead = NewInstance("dead", "mail.send", b"envelope", b"body", "mail")
    first.storage.record_end(dead, End("dead", "", State.DEAD, reason="refused"), timeout=5)
    code, told, stays = move(old, new)
    assert code == 1 and told.startswith("1 instances moved") and "1 dead letters stay there" in stays
