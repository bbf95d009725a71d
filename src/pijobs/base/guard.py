"""No test may reach the real queue: a worker would do what it enqueues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Called with the queue right before it stores an instance. The plugin for pytest puts its own here.
before_storing: Callable[[Any], None] = lambda queue: None  # noqa: E731 - to be replaced
