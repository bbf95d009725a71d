"""SMS for pijobs. Views call :func:`pijobs_sms.send.send_sms`; :mod:`pijobs_sms.provider` is for other gateways."""
