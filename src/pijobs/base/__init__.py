"""What all other packages use: clock, threads, forks and processes of the host, files, network, and masks of
secrets."""
