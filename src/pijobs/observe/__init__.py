"""One answer to "how does it stand?", for commands, pages, readiness and metrics; and what people do about it."""
