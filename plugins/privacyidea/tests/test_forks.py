"""No connection to privacyIDEA's own SQLite database is open at a fork."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import pytest

from pijobs_privacyidea.host import IdleFiles, make_app

if TYPE_CHECKING:
    from pijobs_privacyidea.instance import Instance


@pytest.mark.filterwarnings("ignore")  # of what privacyIDEA does while it starts
def test_a_child_inherits_no_connection_to_the_database_of_privacyidea(installed: Instance) -> None:
    from privacyidea.models import db
    from sqlalchemy import text

    file = str(installed.here / "privacyidea.sqlite")

    def opened() -> int:
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_there(fd)]
        return names.count(file)

    before = opened()  # by apps of other tests in this process
    app = make_app(installed.config)
    IdleFiles.watch(app)
    with app.app_context():
        db.session.execute(text("SELECT 1"))
        db.session.remove()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(1 if opened() > before else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with app.app_context():
        assert db.session.execute(text("SELECT 1")).scalar() == 1
        db.session.remove()


def _is_there(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")
