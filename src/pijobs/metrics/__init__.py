"""Measuring: what is counted, and what each metric means."""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs.metrics.counting")
