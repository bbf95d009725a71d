"""A stranger's plugin, installed as a real distribution: its job, setting and command work in server and worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pijobs.jobs import State

from .conftest import MakeSite
from .site import Site

SAMPLE = Path(__file__).parent.parent / "plugins" / "sample"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the sample plugin into."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(SAMPLE, source)  # a build leaves its traces beside the sources
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(folder / "site"), str(source)], check=True)
    return folder / "site"


@pytest.fixture
def sample_site(make_site: MakeSite, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(installed)
    site = make_site(PLUGINS=("sample", "jobs_under_test"), SAMPLE_SALUTATION="Good morning")
    site.environment["PYTHONPATH"] = os.pathsep.join([site.environment["PYTHONPATH"], str(installed)])
    return site


def test_the_job_runs_in_the_worker_with_the_setting(sample_site: Site) -> None:
    sample_site.start_worker()
    greetings = sample_site.folder / "greetings"
    handle = sample_site.queue.enqueue("sample.greet", kwargs={"file": str(greetings), "name": "Ada"})
    assert sample_site.wait_for(handle.id).state is State.DONE
    assert greetings.read_text() == "Good morning, Ada!\n"
    shown = sample_site.run("greetings", str(greetings))
    assert (shown.returncode, shown.stdout) == (0, "Good morning, Ada!\n")


def test_the_server_lists_what_it_brings(sample_site: Site) -> None:
    listed = sample_site.run("plugins")
    assert listed.returncode == 0
    assert "sample: loaded (pijobs-sample 1.0)" in listed.stdout
    assert "job sample.greet" in listed.stdout
    assert "PI_JOB_QUEUE_SAMPLE_SALUTATION = 'Good morning'" in sample_site.run("config", "show").stdout


def test_a_wrong_value_of_its_setting_is_a_fault_like_any_other(make_site: MakeSite, sample_site: Site) -> None:
    text = sample_site.config.read_text().replace("'Good morning'", "17")
    sample_site.config.write_text(text + "PI_JOB_QUEUE_LEASE = 'ten'\n")
    checked = sample_site.run("config", "check")
    assert checked.returncode == 2
    assert "PI_JOB_QUEUE_SAMPLE_SALUTATION: expected a text, found 17" in checked.stderr
    assert "PI_JOB_QUEUE_LEASE: expected a number of seconds from 1 to 3600, found 'ten'" in checked.stderr
