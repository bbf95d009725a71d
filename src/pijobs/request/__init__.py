"""The way into the queue, limited in time: from a call to an instance that is stored, spooled, or run at once."""
