"""Fixtures for all tests."""

from __future__ import annotations

import hypothesis
from mail_servers import exim, postfix
from services import mariadb_url, postgresql_url, redis_url

__all__ = ["exim", "mariadb_url", "postfix", "postgresql_url", "redis_url"]

# How long an example takes on a busy machine says nothing about it.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")
