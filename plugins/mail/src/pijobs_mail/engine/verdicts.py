"""What a reply of an SMTP server means: for one recipient, for the mail, or for all mails. Pure.

One recipient's trouble is not the server's. A reply is about the server if it can't be about an address or a mail
(:func:`judge`), or if several different mails in a row get it (:func:`may_concern_server`).
"""

from __future__ import annotations

import re

from pijobs_mail.engine.replies import Reply, Step, Verdict

#: Seconds; a longer wait counts as a mistake.
MAX_RETRY_AFTER = 3600.0
#: Codes for an unknown command, or one that is not allowed here.
NOT_UNDERSTOOD = (500, 501, 502, 503, 504)
#: Codes that require a login, or another one (RFC 4954 6).
_LOGIN = (530, 534, 535, 538)

_CLOCK = re.compile(r"\b(?:in|after|for) (\d{1,2}):(\d\d):(\d\d)\b", re.IGNORECASE)
_WAIT = re.compile(
    r"\b(?:in|after|for|wait) (?:at least )?(\d{1,6}) ?(s|sec|seconds?|m|min|minutes?|h|hours?)\b", re.IGNORECASE
)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_GREY = re.compile(r"gr[ae]y[ -]?list|postgrey", re.IGNORECASE)
_TOO_MANY = re.compile(
    r"\btoo (?:many|much)\b|\bmax(?:imum)?\b(?! (?:message )?size)|\blimit (?:of|for|on|per)\b", re.IGNORECASE
)
_OF_WHAT = re.compile(r"\b(?:connections?|sessions?|messages?|e?-?mails?)\b", re.IGNORECASE)
_HASTE = re.compile(r"\brate[ -]limit|\bthrottl|\b(?:connections|thread) limit exceeded|\bserver busy\b", re.IGNORECASE)
#: Limits of an account, a customer or an installation: Google, Amazon SES, Microsoft 365, GMX
#: and IONOS, SendGrid, Zoho, cPanel, Plesk.
_QUOTA = re.compile(
    r"\b(?:sending|send|relay|messaging) limit|\bsending (?:rate|quota|suspended|activity)\b|\bdaily message quota"
    r"|\byour daily limit|\blimit for sending|\bSubmissionQuota|\btenant has exceeded|\bmax emails per"
    r"|\bmessages allowed per",
    re.IGNORECASE,
)
#: Words of servers that require a login with another code: MailEnable, qmail, Exim at hosters.
_ASKS_FOR_LOGIN = re.compile(
    r"\bauth(?:entication|orization)? (?:is )?required|\brequires auth|\bauth(?:enticate)? first"
    r"|\bclient (?:was |is )?not authenticated|\byou are not authenticated",
    re.IGNORECASE,
)
#: Postfix, Haraka, Exim, KumoMTA, OpenSMTPD and Sendmail, Exchange, Google, Amazon SES.
_NO_WORD = re.compile(r"\d|^[a-f]{8,}$|^[^aeiou]+$", re.IGNORECASE)
_MAIL_ID = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bqueued as ([\w.-]+)",
        r"\bmessage queued \(([\w.-]+)\)",
        r"\bids?=([\w.-]+)",
        r"^([\w.-]+) message accepted",
        r"\bInternalId=(\d+)",
        r"^ok\b.{0,80}? \d{9,11} ([\w.-]+) - gsmtp",
        r"^ok:? (?:\d+ )?([\w.-]{6,})",
    )
)


def judge(reply: Reply, step: Step) -> Verdict:
    """What a reply at a step means (RFC 5321 4.2.1, 4.2.2, 4.5.3.1.10; RFC 3463 3.4 and 3.5; RFC 4954 6)."""
    if reply.accepted:
        return Verdict.ACCEPTED
    if step.before_mail:
        return Verdict.LOGIN if step is Step.AUTH and not reply.temporary else Verdict.TROUBLE
    if _is_about_all_mails(reply, step):
        return Verdict.TROUBLE
    if _asks_for_login(reply, step):
        # Some servers require a login only for external recipients, so the reply comes at a recipient.
        return Verdict.LOGIN if step is Step.MAIL else Verdict.DEFERRED
    return Verdict.DEFERRED if reply.temporary or limits_recipients(reply, step) else Verdict.REFUSED


def _is_about_all_mails(reply: Reply, step: Step) -> bool:
    if reply.enhanced in ("4.3.2", "5.4.5") or _QUOTA.search(reply.text):
        return True
    if reply.code == 421:  # RFC 5321 3.8: the server closes the connection. It may do so because of the text
        return step is not Step.END
    if step is not Step.MAIL or not reply.temporary:
        return False
    # At MAIL no recipient was named. A reply with the sender's address is about the sender.
    if reply.enhanced is None:
        return reply.code == 452  # insufficient system storage
    # X.3.X mail system status but "message too big"; X.4.5 mail system congestion
    system = reply.enhanced.startswith("4.3.") and reply.enhanced != "4.3.4" and "@" not in reply.text
    return system or reply.enhanced == "4.4.5"


def _asks_for_login(reply: Reply, step: Step) -> bool:
    by_words = step in (Step.MAIL, Step.RCPT) and _ASKS_FOR_LOGIN.search(reply.text) is not None
    return reply.code in _LOGIN or (by_words and not reply.temporary)


def may_concern_server(reply: Reply, step: Step) -> bool:
    """Whether a deferral counts as the server's trouble if several different mails in a row get it: a filter is away,
    the disk is full, a login is missing. Greylisting and trouble with a recipient or its host do not count."""
    parts = limits_recipients(reply, step) and (reply.enhanced == "4.5.3" or "recipients" in reply.text.lower())
    if parts or is_greylisting(reply):
        return False
    if _asks_for_login(reply, step) or reply.code == 421:
        return True
    if reply.enhanced is None:
        return reply.temporary and reply.code != 450
    if step is Step.RCPT and reply.enhanced.startswith("4.4."):
        return False
    return reply.enhanced.startswith(("4.3.", "4.4.", "4.5.", "4.7.")) and reply.enhanced != "4.3.4"


def limits_recipients(reply: Reply, step: Step) -> bool:
    """Whether the server accepts the recipients, but not all in one mail (RFC 5321 4.5.3.1.10)."""
    if step is not Step.RCPT:
        return False
    # 552 comes from old servers; "Multiple destination domains per transaction is unsupported" from Google.
    codes = (452, None), (452, "4.5.3"), (451, "4.5.3"), (552, None), (552, "5.5.3")
    return (reply.code, reply.enhanced) in codes or "per transaction" in reply.text


def asks_to_slow_down(reply: Reply) -> bool:
    """Whether a server says that it gets too much at once: 421; 450 or 451 with an enhanced code 4.7.X (RFC 3463 3.8);
    or words for it. Greylisting is not included, though some servers use the same code, and neither is a reply with an
    address."""
    if not reply.temporary or is_greylisting(reply):
        return False
    text = reply.text
    policy = reply.code in (450, 451) and (reply.enhanced or "").startswith("4.7.") and "@" not in text
    if reply.code == 421 or policy or _HASTE.search(text) or _QUOTA.search(text):
        return True
    return says_too_many(reply)


def is_greylisting(reply: Reply) -> bool:
    """Whether the server defers a mail because it does not know its sender yet (RFC 6647)."""
    return reply.temporary and _GREY.search(reply.text) is not None


def says_too_many(reply: Reply) -> bool:
    """Whether the reply says that there were too many mails or connections, maybe on this connection."""
    many = _TOO_MANY.search(reply.text)
    return many is not None and _OF_WHAT.search(reply.text, many.end()) is not None


def retry_after(reply: Reply) -> float | None:
    """Seconds after which the server wants another attempt, if it says so ("greylisted for 300 seconds")."""
    text = reply.text
    if match := _CLOCK.search(text):
        wait = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])
    elif match := _WAIT.search(text):
        wait = int(match[1]) * _SECONDS[match[2][0].lower()]
    else:
        return None
    return float(wait) if 0 < wait <= MAX_RETRY_AFTER else None


def mail_id(reply: Reply) -> str | None:
    """The server's id of the mail, to find it in the server's log.

    A reply with an enhanced code X.1.X is about an address, so it has no id of a mail: Google puts an id into each of
    its replies.
    """
    if (reply.enhanced or "").startswith("2.1."):
        return None
    text = reply.text
    found = (match[1] for pattern in _MAIL_ID if (match := pattern.search(text)))
    return next((word.rstrip(".") for word in found if _is_id(word)), None)


def _is_id(word: str) -> bool:
    """Ordinary words have vowels, no digit, and small letters, or are short: "queued", "Message", "OK"."""
    return len(word) > 3 and (word.isupper() or _NO_WORD.search(word) is not None)
