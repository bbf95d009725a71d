"""Reports failures to people: digests by mail and by webhook."""

from pijobs import moved

__getattr__ = moved.names_of(__name__, "pijobs_mail.alerts.job")
