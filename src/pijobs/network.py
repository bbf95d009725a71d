"""Deprecated since 0.2.0, and gone with 0.3.0: ``from pijobs.base import network``."""

import warnings

from pijobs.base.network import *  # noqa: F403

warnings.warn("pijobs.network is deprecated; write: from pijobs.base import network", DeprecationWarning, stacklevel=2)
