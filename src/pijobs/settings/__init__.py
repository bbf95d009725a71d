"""Settings: one table, one validation, one place that reads ``pi.cfg``."""

from pijobs.settings.model import AppPlaces, Settings, validate
from pijobs.settings.pifile import CONFIG_VARIABLE, config_warnings, environment_settings, find_config, read_config
from pijobs.settings.setting import MASK, PREFIX, Setting
from pijobs.settings.table import CORE_SETTINGS

__all__ = [
    "CONFIG_VARIABLE",
    "CORE_SETTINGS",
    "MASK",
    "PREFIX",
    "AppPlaces",
    "Setting",
    "Settings",
    "config_warnings",
    "environment_settings",
    "find_config",
    "read_config",
    "validate",
]
