"""Metrics: counting, and the definition of each metric."""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs.metrics.counting")
