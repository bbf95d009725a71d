"""What the replies of a server mean for the job: what to record and count, and whether to try again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pijobs import FailJob, JobContext, RetryJob, mask_address
from pijobs.base.redact import redact
from pijobs_mail.compose.message import Letter
from pijobs_mail.engine.delivery import Delivery
from pijobs_mail.engine.replies import Reply, Verdict
from pijobs_mail.engine.verdicts import limits_recipients, retry_after


def count(ctx: JobContext, server: str, reply: Reply | None) -> None:
    """Count the reply that decided about a recipient, or ended the conversation; None: there was no reply."""
    ctx.measure("smtp_replies", server=server, code="none" if reply is None else f"{reply.code // 100}xx")


def note(ctx: JobContext, place: str, delivery: Delivery) -> None:
    """Record the server's reply in the history and the log."""
    ctx.note(reply=str(delivery.reply), **({} if delivery.queue_id is None else {"queue_id": delivery.queue_id}))
    accepted, all_of_them = len(delivery.having(Verdict.ACCEPTED)), len(delivery.outcomes)
    ctx.log.debug("mail for %d of %d recipients taken by %s: %s", accepted, all_of_them, place, delivery.reply)


def conclude(
    delivery: Delivery, letter: Letter, faults: Sequence[str], refused: Mapping[str, int], known: Iterable[str]
) -> None:
    """:raises RetryJob: some recipients must be tried again. :raises FailJob: only refusals are left.

    :param faults: the recipients that the mail could not be sent to at all.
    """
    total = len(letter.recipients) + len(letter.faults)
    newly = delivery.having(Verdict.REFUSED)
    deferred = delivery.having(Verdict.DEFERRED)
    if deferred:
        raise RetryJob(
            _counted(len(deferred), total, "deferred", _lines(deferred, known)),
            delay=_wait(delivery),
            kwargs={
                "recipients": list(deferred),
                "refused": {**refused, **{who: reply.code for who, reply in newly.items()}},
            },
        )
    if newly or refused or faults:
        earlier = [f"{mask_address(who)}: {code}" for who, code in refused.items()]
        lines = [*faults, *earlier, *_lines(newly, known)]
        raise FailJob(_counted(len(lines), total, "refused", lines))


def _wait(delivery: Delivery) -> float | None:
    """Seconds until the next attempt, or None for the job's policy. A mail that is accepted in parts
    continues with the next part at once."""
    deferred = [outcome for outcome in delivery.outcomes.values() if outcome.verdict is Verdict.DEFERRED]
    parts = all(outcome.reply.code == 421 or limits_recipients(outcome.reply, outcome.step) for outcome in deferred)
    if parts and len(deferred) < len(delivery.outcomes):
        return 0.0
    return max(filter(None, (retry_after(outcome.reply) for outcome in deferred)), default=None)


def _lines(replies: Mapping[str, Reply], known: Iterable[str]) -> list[str]:
    return [f"{mask_address(who)}: {redact(str(reply), known)}" for who, reply in replies.items()]


def _counted(number: int, total: int, what: str, lines: Sequence[str]) -> str:
    return f"{number} of {total} recipients {what}: {'; '.join(lines)}"
