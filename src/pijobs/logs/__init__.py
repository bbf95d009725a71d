"""The logs of the worker and the server, as classic lines or JSON.

Records of our loggers are redacted when they are made, so any handler may write them: gunicorn's, those of
``PI_LOGCONFIG``, an application's. Tracebacks leave out exception messages and source lines: libraries put addresses,
SQL parameters and whole replies there. A line of its own has the redacted message of the last exception.
"""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs.logs.formatting", "pijobs.logs.configuration")
