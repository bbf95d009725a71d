"""Fixtures for all tests."""

from __future__ import annotations

from mail_servers import exim, postfix
from services import mariadb_url, postgresql_url, redis_url

__all__ = ["exim", "mariadb_url", "postfix", "postgresql_url", "redis_url"]
