"""The recipes in contrib/ start what there is, in a way that their programs accept."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from services import PROGRAM, free_port, missing, program

from pijobs.cli import main as commands
from pijobs.cli.server import server as server_command
from pijobs.errors import ConfigurationError, PijobsError, PluginError
from pijobs.server.app import MAX_REQUEST

ROOT = Path(__file__).parents[2]
CONTRIB = ROOT / "contrib"
UNITS = sorted((CONTRIB / "systemd").glob("*.service"))
NGINX = (CONTRIB / "nginx/pijobs.conf").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((CONTRIB / "docker/compose.yml").read_text())
#: What runs beside a privacyIDEA, which is not installed here; its own tests start the same commands.
PRIVACYIDEA: dict[str, Any] = yaml.safe_load((CONTRIB / "docker/privacyidea.yml").read_text())
#: Beside privacyIDEA's own compose.yaml.
IMAGE: dict[str, Any] = yaml.safe_load((CONTRIB / "docker/privacyidea-image.yml").read_text())

CHART = CONTRIB / "helm/pijobs"
#: The templates of the chart, whose commands and times stand in them as they are. tests/docs/rendered_chart.py has Helm
#: write them out.
TEMPLATES = {template.stem: template.read_text() for template in (CHART / "templates").iterdir()}


def of_unit(unit: Path, name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    assert len(found) == 1, name
    return str(found[0])


def starts() -> list[list[str]]:
    """The commands of units, containers and pods."""
    units = [shlex.split(of_unit(unit, "ExecStart")) for unit in UNITS]
    return [
        *units,
        *(service["command"] for service in COMPOSE["services"].values()),
        *map(of_pod, ("server", "worker")),
    ]


def of_pod(name: str) -> list[str]:
    """The command of its container."""
    (line,) = re.findall(r"^ {10}command: (.*)$", TEMPLATES[name], re.MULTILINE)
    return list(yaml.safe_load(line))


def worker_options(arguments: list[str]) -> dict[str, Any]:
    worker = commands.cli.get_command(click.Context(commands.cli), "worker")
    assert worker is not None
    return worker.make_context("worker", list(arguments)).params


WORKERS = [start for start in starts() if Path(start[0]).name == "privacyidea-queue-huey"]
SERVERS = [start for start in starts() if Path(start[0]).name == "gunicorn"]


def test_an_image_is_built_from_what_it_installs_and_from_no_pi_cfg() -> None:
    """A layer keeps what is copied, whatever is deleted after it; the pages have the reader write pi.cfg here."""
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    let_in = {line.removeprefix("!/") for line in rest if line.startswith("!")}
    assert first == "*" and let_in == {"LICENSE", "README.md", "pyproject.toml", "src", "plugins"}
    for recipe in (CONTRIB / "docker").glob("Dockerfile*"):
        installed = re.findall(r"/src/(\w+)", recipe.read_text())
        assert installed and let_in.issuperset(installed), recipe.name


def test_a_unit_a_container_and_a_pod_start_each_of_both() -> None:
    assert len(WORKERS) == len(SERVERS) == 3


@pytest.mark.parametrize("start", WORKERS, ids=lambda start: str(start[0]))
def test_the_options_of_the_worker_exist(start: list[str]) -> None:
    arguments = [each for each in start[1:] if each not in ("--config", "/etc/privacyidea/pi.cfg")]
    assert worker_options(arguments)


@pytest.mark.parametrize("start", SERVERS, ids=lambda start: str(start[0]))
def test_gunicorn_is_given_our_factory_and_the_port_that_the_proxy_asks(start: list[str]) -> None:
    module, _, call = start[-1].partition(":")
    factory, _, arguments = call.partition("(")
    assert callable(getattr(importlib.import_module(module), factory))
    # The recipe for nginx is the one proxy.
    assert arguments == "proxies=1)"
    assert start[start.index("--bind") + 1].endswith(":5000")
    assert "server 127.0.0.1:5000;" in NGINX
    (port,) = [option for option in server_command.params if option.name == "port"]
    assert port.default == 5000


def test_more_time_is_given_to_stop_than_a_worker_takes() -> None:
    (unit,) = [unit for unit in UNITS if "worker" in unit.name]
    took = [int(start[start.index("-t") + 1]) for start in WORKERS]
    assert int(of_unit(unit, "TimeoutStopSec")) > took[0]
    assert int(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s")) > took[1]


def test_a_pod_has_ended_by_itself_before_kubernetes_kills_it() -> None:
    """What the worker does then is told by tests/acceptance/test_worker.py; a server by test_deployed.py there."""
    grace = int(re.findall(r"terminationGracePeriodSeconds: (\d+)", TEMPLATES["_pod"])[0])
    assert grace == 30
    worker, server = of_pod("worker"), of_pod("server")
    # After -t, 3 s are left to what jobs left behind.
    assert int(worker[worker.index("-t") + 1]) + 5 <= grace
    [pause] = map(int, re.findall(r'preStop:.*\[sleep, "(\d+)"\]', TEMPLATES["server"]))
    assert pause + int(server[server.index("--graceful-timeout") + 1]) + 5 <= grace


def test_probes_ask_where_a_pod_listens_for_routes_that_tell_of_this_process_alone() -> None:
    for name, option in (("server", "--bind"), ("worker", "--http")):
        start = of_pod(name)
        (port,) = re.findall(r"\{name: http, containerPort: (\d+)\}", TEMPLATES[name])
        assert start[start.index(option) + 1] == f"0.0.0.0:{port}"
    asked = re.findall(r"(\w+)Probe:\n +httpGet: \{path: (\S+), port: http\}", TEMPLATES["_pod"])
    assert dict(asked) == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


def test_the_chart_is_of_this_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'\nversion = "{chart["appVersion"]}"\n' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_does_not_start_again_and_again_on_what_a_start_does_not_mend(unit: Path) -> None:
    codes: dict[type[PijobsError], int] = dict(commands._EXIT_CODES)
    unmended = [3, 4] if "server" in unit.name else [codes[ConfigurationError], codes[PluginError]]
    assert [int(code) for code in of_unit(unit, "RestartPreventExitStatus").split()] == unmended
    pause = of_unit(unit, "RestartSec")
    seconds = int(pause.removesuffix("ms")) / 1000 if pause.endswith("ms") else int(pause)
    burst, interval = (int(of_unit(unit, name)) for name in ("StartLimitBurst", "StartLimitIntervalSec"))
    assert burst * seconds < interval, "or the limit is never reached"
    assert of_unit(unit, "LimitCORE") == "0"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_right_for_systemd_and_exposes_little(unit: Path, tmp_path: Path) -> None:
    systemd = program("systemd-analyze")
    copy = tmp_path / unit.name
    # What it starts is not installed here.
    copy.write_text(re.sub(r"(?<=ExecStart=)\S+", "/bin/true", unit.read_text()))
    verified = subprocess.run(
        [systemd, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=PROGRAM
    )
    assert unit.name not in verified.stderr, verified.stderr
    command = [systemd, "security", "--offline=true", "--threshold=20", "--no-pager", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM)
    if "unrecognized option" in done.stderr:
        missing("a systemd-analyze that can judge a file")
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_the_proxy_is_right_for_nginx_and_lets_through_what_the_server_takes(tmp_path: Path) -> None:
    assert f"client_max_body_size {MAX_REQUEST // 1024**2}m;" in NGINX
    nginx, openssl = program("nginx"), program("openssl")
    files = ["-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/cert"]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=jobs.example.com", *files],
        check=True, capture_output=True,
    )  # fmt: skip
    own = NGINX.replace("/etc/ssl/certs/pijobs.pem", f"{tmp_path}/cert")
    own = own.replace("/etc/ssl/private/pijobs.key", f"{tmp_path}/key")
    # nginx binds what it listens on: a port of nobody, and no IPv6, which a container may lack.
    own = re.sub(r"listen \[::\].*", "", own).replace("listen 443", f"listen 127.0.0.1:{free_port()}")
    config = tmp_path / "nginx.conf"
    places = "".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(f"pid {tmp_path}/pid; events {{}}\nhttp {{ access_log off; {places}\n{own}\n}}\n")
    command = [nginx, "-t", "-p", str(tmp_path), "-c", str(config), "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "files"), [("pijobs", "/var/log/pijobs/*.log"), ("privacyidea", "/var/log/privacyidea/queue.log")]
)
def test_logrotate_takes_its_file_and_rotates_where_the_worker_logs(tmp_path: Path, name: str, files: str) -> None:
    recipe = (CONTRIB / "logrotate" / name).read_text()
    logs = [start[start.index("-l") + 1] for start in starts() if "-l" in start]
    assert any(Path(log).match(files) for log in logs)
    assert f"\n{files} {{" in recipe
    logrotate = program("logrotate")
    file = tmp_path / name
    file.write_text(recipe.replace(str(Path(files).parent), str(tmp_path)))
    file.chmod(0o600)
    command = [logrotate, "--debug", "--state", f"{tmp_path}/state", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0 and "error:" not in done.stderr, done.stderr


def test_the_worker_beside_privacyidea_is_started_by_options_that_exist_and_has_time_to_end() -> None:
    unit = CONTRIB / "systemd/privacyidea-queue.service"
    _, command, *options = shlex.split(of_unit(unit, "ExecStart"))
    assert command == "worker"
    taken = worker_options([each for each in options if each not in ("--config", "/etc/privacyidea/pi.cfg")])
    assert taken
    assert int(of_unit(unit, "TimeoutStopSec")) > int(options[options.index("-t") + 1])
    worker = PRIVACYIDEA["services"]["worker"]
    assert worker["command"][:2] == ["pijobs", "worker"]
    assert worker_options(worker["command"][2:])
    assert int(worker["stop_grace_period"].removesuffix("s")) > int(
        worker["command"][worker["command"].index("-t") + 1]
    )


def test_server_and_worker_of_privacyidea_share_image_state_and_redis() -> None:
    services = PRIVACYIDEA["services"]
    assert set(services) == {"redis", "server", "worker"}
    for name in ("server", "worker"):
        assert services[name]["image"] == services["server"]["image"]
        assert "state:/var/lib/privacyidea" in services[name]["volumes"]
        assert services[name]["depends_on"] == ["redis"]
        built = services[name]["build"]
        assert (CONTRIB / "docker" / built["context"] / built["dockerfile"]).resolve().exists()
    factory = "pijobs_privacyidea.wsgi"
    assert services["server"]["command"][-1] == f"{factory}:create_app()"
    assert f"from {factory} import create_app" in (CONTRIB / "apache/privacyideaapp.wsgi").read_text()
    assert set(PRIVACYIDEA["volumes"]) == {"redis", "state"}


def test_server_and_worker_of_privacyideas_own_image_have_the_same_settings_and_time_to_end() -> None:
    server, worker = IMAGE["services"]["pi"], IMAGE["services"]["pi-queue"]
    assert server["environment"].items() <= worker["environment"].items()
    assert server["volumes"] == worker["volumes"] and server["image"] == worker["image"]
    command: list[str] = worker["command"]
    app = command[command.index("--app") + 1]
    assert server["command"][-1] == f"{app}()"
    options = command[command.index("worker") + 1 :]
    assert worker_options(options)
    assert int(worker["stop_grace_period"].removesuffix("s")) > int(options[options.index("-t") + 1])


def test_apache_takes_its_site(tmp_path: Path) -> None:
    apache = program("apache2")
    modules = Path("/usr/lib/apache2/modules")
    if not (modules / "mod_wsgi.so").exists():
        missing("mod_wsgi")
    names = ("mpm_event", "authz_core", "authz_host", "ssl", "wsgi")
    loaded = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in names)
    site = (CONTRIB / "apache/privacyidea.conf").read_text()
    # The certificate and the folder of an installation are not here.
    site = re.sub(r"^ *SSL.*\n", "", site, flags=re.MULTILINE)
    # Nor are its user and its group.
    site = re.sub(r"\b(user|group)=privacyidea\s", "", site)
    config = tmp_path / "apache.conf"
    config.write_text(f"ErrorLog {tmp_path}/log\nServerName localhost\nListen 127.0.0.1:{free_port()}\n{loaded}{site}")
    done = subprocess.run([apache, "-t", "-f", str(config)], capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0, done.stderr


def test_the_image_is_made_of_what_there_is() -> None:
    lines = (CONTRIB / "docker/Dockerfile").read_text()
    extras = re.search(r"/src\[([\w,]+)\]", lines)
    assert extras is not None
    metadata = (ROOT / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in metadata for extra in extras[1].split(","))
    for service in ("server", "worker"):
        built = COMPOSE["services"][service]["build"]
        assert (CONTRIB / "docker" / built["context"] / built["dockerfile"]).resolve().exists()


@pytest.mark.parametrize("recipe", [COMPOSE, PRIVACYIDEA, IMAGE], ids=["pijobs", "privacyidea", "its own image"])
def test_redis_has_a_password_and_a_network_of_its_own(recipe: dict[str, Any]) -> None:
    server = recipe["services"]["redis"]
    assert server["environment"] == {"REDIS_PASSWORD": "${REDIS_PASSWORD:?}"}
    assert server["networks"] == ["queue"] and recipe["networks"]["queue"] == {"internal": True}
    assert "ports" not in server
    assert all("queue" in recipe["services"][name]["networks"] for name in recipe["services"] if name != "redis")


def test_the_redis_of_a_recipe_keeps_its_password_to_itself(tmp_path: Path) -> None:
    program("redis-server")
    *shell, script = COMPOSE["services"]["redis"]["command"]
    port, password = free_port(), "0123456789abcdef"
    script = script.replace("$$", "$").replace("redis-server -", f"redis-server - --port {port} --bind 127.0.0.1", 1)
    environment = {**os.environ, "REDIS_PASSWORD": password}
    with subprocess.Popen([*shell, script], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            client = redis.Redis(
                port=port, password=password, decode_responses=True, retry=Retry(ConstantBackoff(0.05), 2000)
            )
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=port).ping()
            command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
            assert command.startswith(b"redis-server") and password.encode() not in command
        finally:
            server.terminate()
        assert server.wait(120) == 0, "the shell has handed the signal on, because it has become the server"
