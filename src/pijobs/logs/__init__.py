"""What the worker and the server write to their logs: classic lines or JSON.

A record of ours is redacted where it is made, so that anybody may write it: gunicorn, ``PI_LOGCONFIG``, the handlers of
an application. A traceback is shown without the messages of its exceptions and without source lines: libraries put
addresses, SQL parameters and whole replies there. The redacted message of the last exception is shown in a line of its
own.
"""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs.logs.formatting", "pijobs.logs.configuration")
