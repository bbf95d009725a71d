"""Settings: one table, one validation, one place that reads ``pi.cfg``."""

from pijobs.settings.model import MASK, PREFIX, AppPlaces, Setting, Settings, validate
from pijobs.settings.pifile import CONFIG_VARIABLE, config_warnings, find_config, read_config
from pijobs.settings.table import CORE_SETTINGS, storage_url

__all__ = [
    "CONFIG_VARIABLE",
    "CORE_SETTINGS",
    "MASK",
    "PREFIX",
    "AppPlaces",
    "Setting",
    "Settings",
    "config_warnings",
    "find_config",
    "read_config",
    "storage_url",
    "validate",
]
