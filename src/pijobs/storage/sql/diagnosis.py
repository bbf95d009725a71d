"""What ``pijobs config check`` shows about a database."""

from __future__ import annotations

import os
import shutil
import stat

from pijobs.base import clock
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.transactions import Tx


def diagnose(tx: Tx) -> dict[str, str]:
    """Facts by name; ``warning`` if one of them is a problem."""
    facts = {"database": tx.dialect.name, "version": str(tx.link.run(tx.dialect.version_query)[0][0])}
    if isinstance(tx.dialect, Sqlite):
        facts |= _file(tx, tx.dialect)
    else:
        skew = tx.timed_rows(tx.st.clock)[0][0] / 1e6 - clock.time()
        facts["clock"] = f"{skew:+.3f} s against this host"
    return facts


def _file(tx: Tx, dialect: Sqlite) -> dict[str, str]:
    mode = stat.S_IMODE(os.stat(dialect.path).st_mode)
    disk = shutil.disk_usage(os.path.dirname(dialect.path))
    facts = {
        "path": dialect.path,
        "path given": "absolute" if dialect.given_absolute else "relative to the working directory",
        "mode": f"{mode:04o}",
        "disk free": str(disk.free),
        "disk size": str(disk.total),
        "journal mode": str(tx.link.run("PRAGMA journal_mode")[0][0]),
        "survives": "enqueue: a power cut (synchronous=FULL); acknowledgement: any crash of a process (NORMAL)",
    }
    warnings = []
    if mode & 0o077:
        warnings.append("other users may access the file; chmod 600")
    if not dialect.given_absolute:
        warnings.append("server and worker must be started in the same directory; use an absolute path")
    return facts | ({"warning": "; ".join(warnings)} if warnings else {})
