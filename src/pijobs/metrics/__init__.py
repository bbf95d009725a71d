"""Measuring: what is counted, and what each metric means."""
