"""The picture of the dashboard can be made again, of panels that have something to show."""

from __future__ import annotations

from pathlib import Path

import dashboard
import pytest


@pytest.mark.chaos
def test_the_dashboard_is_drawn_from_what_prometheus_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, int] = {}
    body = dashboard.body

    def counted(panel: dict[str, object], lines: list[object], end: float) -> str:
        shown[str(panel["title"])] = len(lines)
        return body(panel, lines, end)  # type: ignore[arg-type]

    monkeypatch.setattr(dashboard, "body", counted)
    dashboard.take(tmp_path / "dashboard.png")
    assert (tmp_path / "dashboard.png").stat().st_size > 10_000
    # Nothing speaks SMTP in the hour that is played.
    assert [title for title, number in shown.items() if not number] == ["SMTP replies by class"]
