"""Mail for pijobs. Views call :func:`pijobs_mail.send.send_mail`.

The path of a mail: :mod:`pijobs_mail.job` chooses the server. :mod:`pijobs_mail.attempt` sends through one server: it
lets :mod:`pijobs_mail.compose` build the message, and :mod:`pijobs_mail.engine` send it by SMTP.
:mod:`pijobs_mail.conclusions` decides from the replies whether the job is done, retried or dead.
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
