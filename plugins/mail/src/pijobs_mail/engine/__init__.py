"""An SMTP client: connections and their pool, login, delivery, and the meaning of replies. It knows no jobs."""
