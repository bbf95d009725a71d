"""An SMTP server that keeps what it gets, for demos and tests."""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs_mail.sink.server")
