"""An SMTP server that keeps what it gets, for demos and tests."""
