"""The tutorial for operators: its commands print what it says that they print."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from pijobs.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs/tutorial/operate.md").read_text()
#: These run until somebody ends them.
LASTING = ("server", "worker")


def commands() -> list[tuple[str, list[str]]]:
    """Each command with the lines that it prints."""
    found = list[tuple[str, list[str]]]()
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def test_the_commands_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (config,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "pi.cfg").write_text(config.replace("/tmp/", f"{tmp_path}/"))
    (tmp_path / "pi.cfg").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRIVACYIDEA_CONFIGFILE", raising=False)
    typed = 0
    for command, lines in commands():
        program, *arguments = shlex.split(command)
        if program != "pijobs" or arguments[0] in LASTING:
            continue
        if arguments[:2] == ["admin", "add"]:
            monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
            arguments.append("--password-stdin")
        with pytest.raises(SystemExit):
            main(arguments)
        printed = capsys.readouterr().out
        assert all(line in printed for line in lines), (command, printed)
        typed += bool(lines)
    assert typed == 3
