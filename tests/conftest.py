"""Fixtures for all tests."""

from __future__ import annotations

from services import mariadb_url, postfix, postgresql_url, redis_url

__all__ = ["mariadb_url", "postfix", "postgresql_url", "redis_url"]
