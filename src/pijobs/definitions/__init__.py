"""Named destinations (SMTP servers, SMS gateways) of plugins, with the queue's toggle and secrets encrypted at rest.

A plugin declares its fields once, and opens the definitions of an installation where it needs them::

    SERVERS = Definitions("smtpserver", [Field("server", required=True), Field("password", secret=True)])

    SERVERS.open(settings).get("main")["enqueue_job"]
"""

from pijobs.definitions.fields import CENSORED, TOGGLE, Definitions, Field
from pijobs.definitions.store import DefinitionStore
from pijobs.errors import DefinitionError, DefinitionNotFound, DefinitionUnreadable

__all__ = [
    "CENSORED",
    "TOGGLE",
    "DefinitionError",
    "DefinitionNotFound",
    "DefinitionStore",
    "DefinitionUnreadable",
    "Definitions",
    "Field",
]
