"""Named destinations (SMTP servers, SMS gateways) of plugins, with the queue's toggle and secrets encrypted at rest.

A plugin declares its fields once, and opens the definitions of an installation where it needs them::

    SERVERS = Definitions("smtpserver", [Field("server", required=True), Field("password", secret=True)])

    SERVERS.open(settings).get("main")["enqueue_job"]

:func:`submit` runs a job in the request or by a worker, as the toggle says. With :class:`Failover`, a second definition
    takes over for one that is in trouble. :func:`definitions_check` is their check in readiness. If the providers of a
    destination have different fields, each is a variant of the declaration.
"""

from typing import Any

from pijobs import moved
from pijobs.definitions.checks import definitions_check, unknown_here
from pijobs.definitions.common import (
    CONNECTION,
    DESCRIPTION,
    LIMITS,
    LOGIN,
    PASSWORD,
    SECURITY,
    USERNAME,
    ca_file_setting,
    login_without_tls_setting,
    timeout_field,
)
from pijobs.definitions.failover import FALLBACK, Failover, chain_of
from pijobs.definitions.fields import CENSORED, TOGGLE, Field
from pijobs.definitions.presets import Preset, preset_command
from pijobs.definitions.records import Fingerprint
from pijobs.definitions.secrets import Url
from pijobs.definitions.store import Definitions, DefinitionStore
from pijobs.definitions.toggle import submit
from pijobs.errors import DefinitionDeleted, DefinitionError, DefinitionNotFound, DefinitionUnreadable

__all__ = [
    "CENSORED",
    "CONNECTION",
    "DESCRIPTION",
    "FALLBACK",
    "LIMITS",
    "LOGIN",
    "PASSWORD",
    "SECURITY",
    "TOGGLE",
    "USERNAME",
    "DefinitionDeleted",
    "DefinitionError",
    "DefinitionNotFound",
    "DefinitionStore",
    "DefinitionUnreadable",
    "Definitions",
    "Failover",
    "Field",
    "Fingerprint",
    "Preset",
    "Url",
    "ca_file_setting",
    "chain_of",
    "definitions_check",
    "login_without_tls_setting",
    "preset_command",
    "submit",
    "timeout_field",
    "unknown_here",
]


def __getattr__(name: str) -> Any:
    if name == "Standby":
        moved.warn("pijobs.definitions.Standby", "pijobs.definitions.Failover")
        return Failover
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
