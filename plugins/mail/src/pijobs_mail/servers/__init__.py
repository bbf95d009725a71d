"""The definitions of SMTP servers: their fields, presets, and the probe that tries one."""
