"""Mail for pijobs. Views call :func:`pijobs_mail.send.send_mail`.

A mail goes from :mod:`pijobs_mail.job` (which server) to :mod:`pijobs_mail.attempt` (by this server), through
:mod:`pijobs_mail.compose` (bytes) and :mod:`pijobs_mail.engine` (the wire), to :mod:`pijobs_mail.conclusions`.
"""

from pijobs import moved

_ROOMS = {
    "alerts": "digest webhook",
    "compose": "attachment content message smime",
    "engine": "auth connection delivery oauth pool replies transport wire",
    "servers": "probe",
}
_MOVED = {f"{__name__}.{name}": f"{__name__}.{room}.{name}" for room, names in _ROOMS.items() for name in names.split()}
moved.install({**_MOVED, f"{__name__}.sink_protocol": f"{__name__}.sink.protocol"})
