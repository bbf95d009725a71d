"""Runs privacyIDEA's own tests of the job queue, the SMTP servers and the e-mail token, with our class in its place.

The source of the installed release comes from PyPI into a folder that is thrown away; nothing of it is part of this
source. One file is changed: the tests of the queue class import ours, and name ours in their configuration. The others
are run as they are. Then all tests that send mails are run once more, and each mail goes through our queue, too, see
:mod:`forced`. Arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

THEIRS, OURS = "privacyidea.lib.queues.huey_queue", "pijobs_privacyidea"
QUEUE = "tests/test_lib_queue.py"
TESTS = (QUEUE, "tests/test_lib_smtpserver.py", "tests/test_api_smtpserver.py", "tests/test_lib_tokens_email.py")

#: More that send mails.
SENDING = (
    "tests/test_api_events.py", "tests/test_api_register.py", "tests/test_api_validate_challengeresponse.py",
    "tests/test_lib_eventhandler_usernotification.py", "tests/test_lib_recovery.py", "tests/test_lib_smsprovider.py",
)  # fmt: skip


def fetch(release: str, folder: Path) -> Path:
    """The unpacked source of a release."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*download, "--dest", str(folder), f"privacyidea=={release}"], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        source = fetch(metadata.version("privacyidea"), Path(folder))
        if missing := [path for path in TESTS if not (source / path).exists()]:
            print(f"expected tests in the source from PyPI, found none of {', '.join(missing)}", file=sys.stderr)
            return 2
        text = (source / QUEUE).read_text(encoding="utf-8")
        print(f"{QUEUE}: {text.count(THEIRS)} times {THEIRS} becomes {OURS}")
        (source / QUEUE).write_text(text.replace(THEIRS, OURS), encoding="utf-8")
        # From there, privacyIDEA itself is that of the source: its tests find their files relative to it.
        options = ["-q", "-p", "no:cacheprovider", "-o", "pijobs_real_storage=true"]
        command = [sys.executable, "-m", "pytest", *options]
        alone = subprocess.run([*command, *TESTS, *sys.argv[1:]], cwd=source).returncode
        print("the same, with every mail through the queue")
        sending = [path for path in SENDING if (source / path).exists()]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        forced = [*command, "-p", "forced", *TESTS, *sending, *sys.argv[1:]]
        return alone or subprocess.run(forced, cwd=source, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
