"""From the arguments of a mail to the bytes for the server."""
