"""The provider ``smpp``: sessions by SMPP 3.4 ("SMPP Protocol Specification v3.4", SMPP Developers Forum, 1999).

No library: those on PyPI log each PDU, and with it the OTP; split texts within a character; or need an event loop. An
SMS needs only five kinds of PDU.
"""
