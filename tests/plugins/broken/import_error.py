"""Needs something that is not there."""

import a_module_that_nobody_installs  # type: ignore[import-not-found]  # noqa: F401
