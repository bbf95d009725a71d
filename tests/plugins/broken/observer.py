"""Observers that fail, and a host app that can't be made."""

from __future__ import annotations

import flask

from pijobs import InstanceEvent, Settings, hookimpl


@hookimpl
def job_enqueued(event: InstanceEvent) -> None:
    raise RuntimeError(f"{event.name} disturbs me, write to alice@example.com")


@hookimpl
def job_started(event: InstanceEvent) -> None:
    raise SystemExit(1)


@hookimpl
def host_app(settings: Settings) -> flask.Flask:
    raise OSError("the database of the host app is away")
