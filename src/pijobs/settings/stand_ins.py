"""Settings that ``pijobs dev`` passes to the processes it starts. They override ``pi.cfg`` and app."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from pijobs.errors import ConfigurationError

#: Variable of the environment, with a JSON object.
VARIABLE = "PIJOBS_STAND_INS"


def stand_in_settings() -> Mapping[str, Any]:
    """Upper-case names and values. :raises ConfigurationError: if the variable is not a JSON object."""
    written = os.environ.get(VARIABLE)
    if not written:
        return {}
    try:
        found = json.loads(written)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{VARIABLE}: expected a JSON object of settings, found something else; unset it")
    return found
