"""Delivers mails to SMTP servers: connections, their pool, login, delivery, and the meaning of replies."""
