"""Statistics over HTTP and by command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask

from pijobs.cli.main import cli
from pijobs_statistics.store import Store
from pijobs_statistics.values import minute

from .served import Client, error_of, make_app, settings_of


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """A server that counted two things a moment ago."""
    app = make_app(tmp_path, PLUGINS=("statistics",))
    rows = [[minute(), "login", '{"result":"ok"}', 2, 2500], [minute(), "sent", "{}", 1, 1000]]
    Store.of(settings_of(app)).apply("one", rows)
    return app


def test_a_viewer_reads_them_as_json(app: Flask) -> None:
    answer = Client(app, "viewer").get("/statistics", name="login", per="day")
    assert answer["per"] == "day"
    assert [(row["name"], row["tags"], row["count"], row["value"]) for row in answer["rows"]] == [
        ("login", {"result": "ok"}, 2, 2.5)
    ]


def test_and_as_csv(app: Flask) -> None:
    response = Client(app, "viewer").ask("GET", "/statistics", format="csv")
    assert response.mimetype == "text/csv"
    lines = [line.partition(",")[2] for line in response.text.splitlines()]
    assert lines == ["name,tag_result,count,value", "login,ok,2,2.5", "sent,,1,1"]


def test_a_stranger_reads_nothing(app: Flask) -> None:
    assert error_of(app.test_client().get("/statistics")) == (401, 4033)


@pytest.mark.parametrize("query", [{"per": "week"}, {"since": "x"}, {"format": "xml"}, {"nmae": "login"}])
def test_what_can_not_be_asked_for_is_told(app: Flask, query: dict[str, str]) -> None:
    assert error_of(Client(app, "viewer").ask("GET", "/statistics", **query)) == (400, 905)


def test_the_command_prints_them(app: Flask, tmp_path: Path) -> None:
    config = tmp_path / "pi.cfg"
    config.write_text(f"SECRET_KEY = 'x'\nSQLALCHEMY_DATABASE_URI = 'sqlite:///{tmp_path}/pijobs.sqlite'\n")
    config.chmod(0o600)
    ask = ["--config", str(config), "statistics", "login"]
    assert "login result=ok  2.5 in 2 records" in CliRunner().invoke(cli, ask).output
    assert json.loads(CliRunner().invoke(cli, [*ask, "--json"]).output)[0]["value"] == 2.5
    assert CliRunner().invoke(cli, [*ask, "--csv"]).output.endswith("login,ok,2,2.5\n")
    assert CliRunner().invoke(cli, [*ask, "--since", "yesterday"]).exit_code == 2
