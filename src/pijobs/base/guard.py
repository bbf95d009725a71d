"""Keeps tests away from the real queue, where a worker would run what they enqueue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Called with the queue right before it stores an instance. The pytest plugin sets it.
before_storing: Callable[[Any], None] = lambda queue: None  # noqa: E731 - to be replaced
