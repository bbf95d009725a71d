"""Alerts and dashboard ask for what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask
from integration.served import add_instance, add_worker, make_app, queue_of, storage_of
from prometheus_client.parser import text_string_to_metric_families
from services import program

from pijobs.metrics.definitions import FAMILIES
from pijobs.storage.values import NewInstance

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "contrib/prometheus/alerts.yml"
DASHBOARD = ROOT / "contrib/grafana/pijobs.json"


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    return found


def queries() -> Iterator[str]:
    """What alerts and dashboard ask Prometheus for."""
    yield from (rule["expr"] for rule in rules())
    dashboard = json.loads(DASHBOARD.read_text())
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    yield from (row["definition"] for row in dashboard["templating"]["list"] if "definition" in row)


@pytest.fixture
def shown(tmp_path: Path) -> dict[str, set[str]]:
    """The labels of each series that is shown once everything has happened."""
    app = make_app(tmp_path, SPOOL=f"{tmp_path}/spool.sqlite")
    add_instance(app)
    add_worker(app)
    spool = queue_of(app).spool
    assert spool is not None
    spool.enqueue(NewInstance("spooled", "mail.send", b"e", b"b", "smtp:main", created=spool.now()), timeout=5)
    storage_of(app).pause("smtp:main")
    storage_of(app).bypass("smtp:other")
    count_everything(app)
    families = text_string_to_metric_families(app.test_client().get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def count_everything(app: Flask) -> None:
    metrics = queue_of(app).metrics
    metrics.attempt("mail.send", "smtp:main", "done", waited=1, took=1, since_enqueue=2)
    metrics.failed("mail.send", "smtp:main", "dead")
    metrics.crashed("mail.send", "smtp:main")
    metrics.fallback("mail.send", "direct")
    metrics.measure("mail.send", "smtp_replies", 1, {"server": "main", "code": "2xx"})


def test_everything_has_happened(shown: dict[str, set[str]]) -> None:
    """What the other tests rest on, and what the reference says of labels."""
    for family in FAMILIES:
        names = [f"{family.name}_{part}" for part in ("bucket", "sum", "count")]
        for name in names if family.kind == "histogram" else [family.name]:
            assert shown[name] - {"le"} == set(family.labels)


def test_each_series_that_is_asked_for_exists(shown: dict[str, set[str]]) -> None:
    asked = {name for query in queries() for name in re.findall(r"\bpijobs_\w+", query)}
    assert len(asked) > 10
    assert asked - set(shown) == set()


def test_each_selector_names_labels_of_its_series(shown: dict[str, set[str]]) -> None:
    selectors = [match for query in queries() for match in re.findall(r"\b(pijobs_\w+){([^}]*)}", query)]
    assert len(selectors) > 5
    for name, selector in selectors:
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector)) <= shown[name], (name, selector)


def test_results_are_grouped_by_labels_that_exist(shown: dict[str, set[str]]) -> None:
    for query in queries():
        there = set().union(*(shown[name] for name in re.findall(r"\bpijobs_\w+", query)))
        grouped = {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", query) for label in labels.split(",")}
        assert grouped <= there, query


def test_each_alert_says_what_happened_and_what_to_do() -> None:
    assert len(rules()) > 5
    for rule in rules():
        assert rule["annotations"]["summary"] and rule["annotations"]["description"], rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_the_alerts_are_right_for_prometheus() -> None:
    done = subprocess.run([program("promtool"), "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    command = [program("promtool"), "test", "rules", str(tmp_path / "alerts_test.yml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_queries_of_the_dashboard_are_right_for_prometheus(tmp_path: Path) -> None:
    found = [query.replace("$__rate_interval", "5m") for query in queries() if not query.startswith("label_values")]
    recorded = [{"record": f"query:number{number}", "expr": query} for number, query in enumerate(found)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = subprocess.run([program("promtool"), "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_panel_covers_another() -> None:
    covered: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24 and not covered & cells, panel["title"]
        covered |= cells
