"""Who brings jobs: plugins are found, loaded, called by hooks, and their jobs registered."""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs.plugins.loading")
