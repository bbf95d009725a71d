"""Plugins: finding, loading and calling them, and registering their jobs."""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs.plugins.loading")
