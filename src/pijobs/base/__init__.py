"""What all else stands on: clock, threads, forks and processes of the host, files, network, and masks of secrets."""
