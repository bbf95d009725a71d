"""The picture of the Grafana dashboard in the docs: ``make dashboard``.

Grafana is not needed. The hour of the screenshots is played; a real Prometheus gets what ``/metrics`` told every 15 s,
and answers the queries of the dashboard; the panels are drawn from its answers.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import screenshots
from acceptance.browser import launched
from integration.served import make_app, queue_of
from prometheus_client.parser import text_string_to_metric_families
from services import free_port, program, wait_until

from pijobs.server.exposition import exposition
from pijobs.storage.memory import MemoryStorage
from pijobs.testing.clock import ManualClock

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "contrib/grafana/pijobs.json").read_text())
#: Seconds between two looks of Prometheus, and between two points of a plot.
SCRAPE, STEP = 15, 30
COLOURS = ("#3987e5", "#e0a030", "#d03b3b", "#2f9e6a", "#8a5cd0", "#6b7280")
STYLE = Path(__file__).with_suffix(".css").read_text()


class Watched(ManualClock):
    """A clock in whose time something looks every 15 s."""

    look: Any = None

    def advance(self, seconds: float) -> None:
        end = self.time() + seconds
        while self.look and (due := (self.time() // SCRAPE + 1) * SCRAPE) <= end:
            super().advance(due - self.time())
            self.look(due)
        super().advance(end - self.time())


def played(folder: Path) -> tuple[str, float]:
    """An hour of mails, in the text that promtool takes, and its end."""
    app = make_app(folder, URL="memory://", NAME="privacyidea", PLUGINS=("mail",))
    end, queue, series = time.time() // STEP * STEP, queue_of(app), defaultdict[tuple[str, str], list[str]](list)
    clock = Watched(end - 3600)
    storage = queue.storage = MemoryStorage(clock=clock)
    hour = screenshots.Hour(queue, storage, clock)

    def look(at: float) -> None:
        for session in hour.sessions:
            storage.beat(session, lease=7_200_000)
        for family in text_string_to_metric_families(exposition(queue).decode()):
            for sample in family.samples:
                labels = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(sample.labels.items()))
                series[sample.name, labels].append(f"{sample.name}{{{labels}}} {sample.value} {at:.0f}")

    clock.look = look
    hour.pass_by(end - 90)
    hour.life()
    hour.present()
    clock.advance(end - clock.time())
    lines: list[str] = []
    for name, labels in sorted(series):
        lines += [f"# TYPE {name} unknown"] if not lines or not lines[-1].startswith(f"{name}{{") else []
        lines += series[name, labels]
    return "\n".join([*lines, "# EOF", ""]), end


def asked(port: int, expression: str, end: float) -> list[dict[str, Any]]:
    """The series that Prometheus answers for the hour."""
    expression = re.sub(r"\$(job|group)\b", ".*", expression).replace("$__rate_interval", "4m")
    query = urlencode({"query": expression, "start": end - 3600, "end": end, "step": STEP})
    with urlopen(f"http://127.0.0.1:{port}/api/v1/query_range?{query}") as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return [one for one in found if any(value != "NaN" for _, value in one["values"])]


def drawn(panel: dict[str, Any], port: int, end: float) -> str:
    """One panel."""
    place, lines = panel["gridPos"], list[tuple[str, list[tuple[float, float]]]]()
    for target in panel["targets"]:
        for found in asked(port, target["expr"], end):
            words = target.get("legendFormat", "")
            for name, value in found["metric"].items():
                words = words.replace(f"{{{{{name}}}}}", value)
            points = [(float(at), float(value)) for at, value in found["values"] if value not in ("NaN", "+Inf")]
            lines.append((words, points))
    area = f"grid-area: {place['y'] + 1} / {place['x'] + 1} / span {place['h']} / span {place['w']}"
    return f'<div style="{area}"><b>{escape(panel["title"])}</b>{body(panel, lines, end)}</div>'


def body(panel: dict[str, Any], lines: list[tuple[str, list[tuple[float, float]]]], end: float) -> str:
    """The number, or the plot."""
    unit = {"s": " s", "ops": " /s"}.get(panel["fieldConfig"]["defaults"].get("unit", ""), "")
    if not lines:
        return '<p class="none">No data</p>'
    if panel["type"] == "stat":
        return f'<p class="one">{lines[0][1][-1][1]:.3g}{unit}</p>'
    most = max((value for _, points in lines for _, value in points), default=0) or 1
    plot, legend = "", f'<span class="top">{most:.3g}{unit}</span>'
    for number, (words, points) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places, before = "", 0.0
        for at, value in points:  # a gap stays one
            places += f"{'L' if at - before <= STEP else 'M'}{(at - end + 3600) / 36:.2f},{99 - 96 * value / most:.2f}"
            before = at
        plot += f'<path stroke="{colour}" d="{places}"/>'
        legend += f'<i style="background: {colour}"></i>{escape(words)}'
    return f'<p>{legend}</p><svg viewBox="0 0 100 100" preserveAspectRatio="none">{plot}</svg>'


def take(picture: Path) -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name, launched() as browser:
        folder, port = Path(name), free_port()
        text, end = played(folder)
        (folder / "metrics").write_text(text)
        (folder / "prometheus.yml").write_text("{}\n")
        command = [
            program("promtool"),
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            f"{folder}/metrics",
            f"{folder}/data",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=error"]
        prometheus = subprocess.Popen([program("prometheus"), *options, f"--web.listen-address=127.0.0.1:{port}"])
        try:
            wait_until(lambda: _answers(port), what="Prometheus")
            panels = "".join(drawn(panel, port, end) for panel in DASHBOARD["panels"])
        finally:
            prometheus.terminate()
            prometheus.wait()
        page = browser.new_page(viewport={"width": 1200, "height": 600})
        page.set_content(f"<!doctype html><style>{STYLE}</style>{panels}")
        page.screenshot(path=picture, full_page=True)


def _answers(port: int) -> bool:
    try:
        return bool(urlopen(f"http://127.0.0.1:{port}/-/ready").status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    take(Path(sys.argv[1]) if len(sys.argv) > 1 else screenshots.STATIC / "dashboard.png")
