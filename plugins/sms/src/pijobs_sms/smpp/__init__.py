"""The provider ``smpp``: sessions by SMPP 3.4 ("SMPP Protocol Specification v3.4", SMPP Developers Forum, 1999).

No library: those of PyPI log each PDU, and with it the OTP, split texts within a letter, or need an event loop. What an
SMS needs are five kinds of PDU.
"""
