"""Deprecated since 0.2.0, and gone with 0.3.0: ``from pijobs import mask_address, mask_number``."""

import warnings

from pijobs.base.redact import *  # noqa: F403

warnings.warn(
    "pijobs.redact is deprecated; write: from pijobs import mask_address, mask_number", DeprecationWarning, stacklevel=2
)
