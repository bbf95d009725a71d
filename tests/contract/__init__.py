"""One suite that holds all storages to :mod:`pijobs.storage.contract`."""
