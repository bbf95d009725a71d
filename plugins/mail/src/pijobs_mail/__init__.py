"""Mail for pijobs. Views call :func:`pijobs_mail.send.send_mail`; :mod:`pijobs_mail.engine.transport` is the engine."""
