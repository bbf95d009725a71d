"""The chart as Helm writes it out; for ``make compat-helm``, which brings Helm and the schemas of Kubernetes."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-not-found, import-untyped, unused-ignore]
import pytest
import yaml
from services import PROGRAM, program

CHART = str(Path(__file__).parents[2] / "contrib/helm/pijobs")
GIVEN = ("--set", "image.repository=registry.example.com/pijobs", "--set", "config=SECRET_KEY = 'a key'")
#: Further values, and the objects that come out.
BUDGETS = {"PodDisruptionBudget demo-server", "PodDisruptionBudget demo-worker"}
BOTH = {"Deployment demo-server", "Deployment demo-worker", "Service demo", *BUDGETS}
VARIANTS = [
    ((), BOTH | {"Secret demo"}),
    (("--set", "existingSecret=own"), BOTH),
    (("--set", "existingSecret=own,server.replicas=1,worker.replicas=1"), BOTH - BUDGETS),
    (("--set", "serviceMonitor.enabled=true"), BOTH | {"Secret demo", "ServiceMonitor demo"}),
    (("--set", "imagePullSecrets[0].name=registry"), BOTH | {"Secret demo"}),
]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("helm"), *arguments], capture_output=True, text=True, timeout=PROGRAM)


@cache
def rendered(*values: str) -> dict[str, Any]:
    """The objects, by kind and name."""
    done = helm("template", "demo", CHART, *GIVEN, *values)
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    return {f"{one['kind']} {one['metadata']['name']}": one for one in objects}


def test_helm_finds_no_fault() -> None:
    done = helm("lint", "--strict", CHART, *GIVEN)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("values", "expected"), VARIANTS)
def test_it_is_made_of_these_objects(values: tuple[str, ...], expected: set[str]) -> None:
    assert set(rendered(*values)) == expected


@pytest.mark.parametrize("release", ["1.25", "1.31", "1.37"])
@pytest.mark.parametrize(("values", "expected"), VARIANTS)
def test_kubernetes_takes_them(values: tuple[str, ...], expected: set[str], release: str) -> None:
    for name, one in rendered(*values).items():
        # The schema of that one comes with the operator of Prometheus.
        if not name.startswith("ServiceMonitor"):
            kubernetes_validate.validate(one, release, strict=True)


def test_the_schemas_would_refuse_a_fault() -> None:
    wrong = {**rendered()["Service demo"], "spec": {"selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_what_selects_finds_its_pods_and_no_others() -> None:
    objects = rendered("--set", "serviceMonitor.enabled=true")
    labels = {
        name: objects[f"Deployment demo-{name}"]["spec"]["template"]["metadata"]["labels"]
        for name in ("server", "worker")
    }
    for name, own in labels.items():
        selected = objects[f"Deployment demo-{name}"]["spec"]["selector"]["matchLabels"].items()
        assert [other for other in labels if selected <= labels[other].items()] == [name], own
        assert objects[f"PodDisruptionBudget demo-{name}"]["spec"]["selector"]["matchLabels"].items() == selected
    service = objects["Service demo"]
    assert [name for name in labels if service["spec"]["selector"].items() <= labels[name].items()] == ["server"]
    of_another_chart = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "server"}
    assert not service["spec"]["selector"].items() <= of_another_chart.items()
    monitored = objects["ServiceMonitor demo"]["spec"]["selector"]["matchLabels"].items()
    assert monitored <= service["metadata"]["labels"].items()


def test_a_user_may_have_a_great_number() -> None:
    """OpenShift gives each project some of a thousand million."""
    for name in ("Deployment demo-server", "Deployment demo-worker"):
        given = rendered("--set", "user=1000650000")[name]["spec"]["template"]["spec"]["securityContext"]
        assert [given[field] for field in ("runAsUser", "runAsGroup", "fsGroup")] == [1000650000] * 3
    values = yaml.safe_dump({"user": 1000650000})
    done = subprocess.run(
        [program("helm"), "template", "demo", CHART, *GIVEN, "--values", "-"],
        input=values, capture_output=True, text=True, timeout=PROGRAM,
    )  # fmt: skip
    assert "runAsUser: 1000650000\n" in done.stdout


def test_a_change_of_pi_cfg_is_a_roll_out() -> None:
    for name in ("Deployment demo-server", "Deployment demo-worker"):
        templates = [rendered(*values)[name]["spec"]["template"] for values in ((), ("--set", "config=OTHER = 1"))]
        assert templates[0] != templates[1]


@pytest.mark.parametrize(
    ("given", "told"),
    [(GIVEN[:2], "config: expected the text of pi.cfg"), (GIVEN[2:], "image.repository: where the image")],
)
def test_it_says_what_it_lacks(given: tuple[str, ...], told: str) -> None:
    done = helm("template", "demo", CHART, *given)
    assert done.returncode != 0 and told in done.stderr
