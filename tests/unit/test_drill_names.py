"""Which drill ``pijobs drill`` takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from pijobs.cli.drill import drill


def run(*arguments: str, given: tuple[str, ...]) -> str:
    """The error of the command where plugins give drills of these names."""

    def call(hook: str) -> list[Any]:
        assert hook == "register_drills"
        return [(name, [SimpleNamespace(name=name)]) for name in given]

    queue = SimpleNamespace(plugins=SimpleNamespace(call=call))
    done = CliRunner().invoke(drill, arguments, obj=SimpleNamespace(queue=lambda: queue))
    assert done.exit_code == 2
    return done.output


@pytest.mark.parametrize(
    ("given", "told"),
    [((), "no loaded plugin has a drill; install pijobs-mail"), (("mail", "sms"), "expected mail or sms, found 'fax'")],
)
def test_one_that_is_not_there_is_a_usage_error(given: tuple[str, ...], told: str) -> None:
    assert told in run("fax", given=given)
