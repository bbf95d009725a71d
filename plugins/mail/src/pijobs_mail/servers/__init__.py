"""The definitions of SMTP servers: their fields, presets, and the probe that tries one."""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs_mail.servers.definitions")
