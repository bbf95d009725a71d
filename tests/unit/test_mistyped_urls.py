"""A URL that somebody mistyped is told without its password, wherever it stands and whoever tells it."""

from __future__ import annotations

import contextlib
import logging
from itertools import product
from pathlib import Path

import pytest

from pijobs.cli.main import main
from pijobs.errors import PijobsError
from pijobs.server import create_app
from pijobs.settings.setting import masked_repr

SECRET = "SEKRET"
MISTYPED = (
    "redis://u:SEKRET@h:99999/x", "redis://u:p/SEKRET@h/0", "redis://:SEKRET#1@h:6379/0", "redis//:SEKRET@h:6379/0",
    "redis:/:SEKRET@h", "redis:SEKRET@h", "redis://:SEKRET@", "redis://:SE SEKRET@h/0", "redis://:SEKRET@h:port/0",
    "redis://:SEKRET@[h/0", "redis://:SEKRET@h/db0", "redis://:SEKRET@h/0\n", " redis://:SEKRET@h", "redis://SEKRET@h",
    "redis://h:1/0?password=SEKRET", "redis://h:1/0?pasword=SEKRET", "redis://127.0.0.1:1/0?token=SEKRET",
    "redis://:SEKRET@127.0.0.1:1/0?db=SEKRET", "rediss://:SEKRET@h/0?ssl_cert_reqs=SEKRET", "redis://:SE'SEKRET@h:x/0",
    "redis+sentinel://:SEKRET@h:26379", "redis+sentinel://h/svc?sentinel_password=SEKRET&foo=1",
    "redis+cluster://:SEKRET@h:6379/3", "unix://SEKRET@/tmp/x?foo=1", "SEKRET", "postgresql//u:SEKRET@h/db",
    "postgresql+psycopg:/u:SEKRET@h/db", "postgresql+psycopg://u:SEKRET@h:99x/db", "postgresql+psycopg://u:SEKRET@@h:1/db",
    "postgresql+foo://u:SEKRET@h/db", "postgresql+psycopg://u@127.0.0.1:1/db?passwd=SEKRET", "postgres://u:SEKRET@h/db",
    "mysql+pymysql://u:SE:KRET:SEKRET@h:70000/db", "mysql+pymysql://u:SEKRET@127.0.0.1:1/db?charset=SEKRET",
    "sqlite://u:SEKRET@h/db", "http://u:SEKRET@h/",
)  # fmt: skip
SETTINGS = ("PI_JOB_QUEUE_URL", "PI_JOB_QUEUE_DATABASE", "SQLALCHEMY_DATABASE_URI")


@pytest.mark.parametrize(
    ("url", "setting"),
    [*product(MISTYPED, SETTINGS), *((url, "PI_JOB_QUEUE_HOST") for url in MISTYPED if url != SECRET)],
)
def test_a_mistyped_url_is_told_without_its_password(
    url: str, setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lines = [f"SECRET_KEY = '{'k' * 40}'", "PI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'", f"{setting} = {url!r}"]
    if setting not in ("PI_JOB_QUEUE_URL", "PI_JOB_QUEUE_HOST"):
        lines.append(f"PI_JOB_QUEUE_URL = 'sqlite:///{tmp_path}/queue.sqlite'")
    config = tmp_path / "pi.cfg"
    config.write_text("\n".join(lines))
    told = ""
    with pytest.raises(SystemExit):  # by a code of ours, whatever it is
        main(["--config", str(config), "config", "show"])
    with contextlib.suppress(PijobsError):
        try:
            app = create_app(config)
        except PijobsError as error:
            told = str(error)
            raise
        told = app.test_client().get("/healthz").get_data(as_text=True)
    found = capsys.readouterr()
    assert SECRET not in found.out + found.err + caplog.text + told


@pytest.mark.parametrize("command", [("config", "check"), ("status",), ("worker",)])
@pytest.mark.parametrize("url", MISTYPED[:6] + MISTYPED[17:21])
def test_no_command_tells_the_password_of_a_mistyped_url(
    url: str, command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "pi.cfg"
    config.write_text(
        f"SECRET_KEY = '{'k' * 40}'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\nPI_JOB_QUEUE_URL = {url!r}\n"
    )
    with pytest.raises(SystemExit):
        main(["--config", str(config), *command])
    found = capsys.readouterr()
    assert SECRET not in found.out + found.err


@pytest.mark.parametrize("url", [url for url in MISTYPED if url != SECRET])
def test_a_value_is_shown_without_a_password_also_in_a_list(url: str) -> None:
    for value in (url, [url], {"a": (url,)}, url.encode()):
        assert SECRET not in masked_repr(value)
    assert masked_repr("redis://h:6379/0?socket_timeout=5&ssl_ca_certs=/etc/ca.pem") == (
        "'redis://h:6379/0?socket_timeout=5&ssl_ca_certs=/etc/ca.pem'"
    )
