"""Amazon's signature of requests, version 4, except for those to S3.

See https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from pijobs.base import clock

if TYPE_CHECKING:
    import httpx

_ALGORITHM = "AWS4-HMAC-SHA256"
_HOST = re.compile(r"(?P<service>[a-z0-9]+)(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")


def region_of(host: str) -> str:
    """The region in a host such as ``sns.eu-central-1.amazonaws.com``; empty for others."""
    found = _HOST.fullmatch(host)
    return found["region"] if found else ""


def sign(
    request: httpx.Request, key: str, secret: str, region: str, *, service: str = "sns", at: datetime | None = None
) -> None:
    """Add the headers ``X-Amz-Date`` and ``Authorization``.

    :param key: id of the access key. :param secret: the key itself.
    :param at: None: now.
    """
    stamp = (at or datetime.fromtimestamp(clock.time(), timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
    request.headers["X-Amz-Date"] = stamp
    signed = [name for name in ("content-type", "host", "x-amz-date") if name in request.headers]
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed)
    canonical = [
        request.method, quote(request.url.raw_path.partition(b"?")[0], safe="/~"), _query(request.url), headers,
        ";".join(signed), _hash(request.read()),
    ]  # fmt: skip
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    code = ("AWS4" + secret).encode()
    for part in (*scope.split("/"), "\n".join([_ALGORITHM, stamp, scope, _hash("\n".join(canonical).encode())])):
        code = hmac.digest(code, part.encode(), "sha256")
    request.headers["Authorization"] = (
        f"{_ALGORITHM} Credential={key}/{scope}, SignedHeaders={';'.join(signed)}, Signature={code.hex()}"
    )


def _query(url: httpx.URL) -> str:
    pairs = parse_qsl(url.query.decode("ascii"), keep_blank_values=True)
    encoded = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
