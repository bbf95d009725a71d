"""From the arguments of a mail to the bytes that go to the server."""
