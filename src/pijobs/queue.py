"""Deprecated since 0.2.0, and gone with 0.3.0: ``from pijobs import Handle, Queue``."""

import warnings

from pijobs.request.queue import *  # noqa: F403

warnings.warn("pijobs.queue is deprecated; write: from pijobs import Handle, Queue", DeprecationWarning, stacklevel=2)
