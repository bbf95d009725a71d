"""An SMTP server that keeps the received mails, for demos and tests."""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs_mail.sink.server")
