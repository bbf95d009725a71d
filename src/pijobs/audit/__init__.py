"""The audit log: who did what, when, on what, with what result. Append-only, in the installation's database."""

from pijobs.audit.entries import Entry
from pijobs.audit.log import AuditLog

__all__ = ["AuditLog", "Entry"]
