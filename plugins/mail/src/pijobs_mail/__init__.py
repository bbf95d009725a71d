"""Mail for pijobs. Views call :func:`pijobs_mail.send.send_mail`; :mod:`pijobs_mail.engine.transport` is the engine."""

from pijobs import moved

_ROOMS = {
    "alerts": "digest webhook",
    "compose": "attachment content message smime",
    "engine": "auth connection delivery oauth pool replies transport wire",
    "servers": "probe",
}
_MOVED = {f"{__name__}.{name}": f"{__name__}.{room}.{name}" for room, names in _ROOMS.items() for name in names.split()}
moved.install({**_MOVED, f"{__name__}.sink_protocol": f"{__name__}.sink.protocol"})
