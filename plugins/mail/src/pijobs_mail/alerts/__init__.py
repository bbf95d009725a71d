"""Tells people what failed: digests by mail and by webhook."""
