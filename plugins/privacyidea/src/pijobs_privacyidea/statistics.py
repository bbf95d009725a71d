"""privacyIDEA's own SQL audit, which also counts: ``PI_AUDIT_MODULE = 'pijobs_privacyidea.statistics'``."""

from __future__ import annotations

import logging

from privacyidea.lib.auditmodules.sqlaudit import Audit as SqlAudit

from pijobs.base.redact import describe
from pijobs_privacyidea.usage import count_request

log = logging.getLogger(__name__)


class Audit(SqlAudit):  # type: ignore[misc]
    """privacyIDEA's audit, with counts."""

    def finalize_log(self) -> None:
        """Write the row of a request, and count it. Raises only what privacyIDEA's method raises."""
        row = dict(self.audit_data)
        super().finalize_log()
        try:
            count_request(row)
        except Exception as error:  # any error of a database, or of a half installed plugin
            log.error("a request is not counted: %s", describe(error))
