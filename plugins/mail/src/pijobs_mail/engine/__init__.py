"""From a mail and a server to its reply: connections, their pool, sign-in, delivery, and what replies mean."""
