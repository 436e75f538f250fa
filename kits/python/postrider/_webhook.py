from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Mapping


class InvalidSignature(Exception):
    """The call must not be trusted: answer 401."""


class Webhook:
    """Verifies the webhook calls of a node, which are signed as Standard Webhooks say."""

    TOLERANCE = 300  #: how old, and how far in the future, a call may be, in seconds

    def __init__(self, *secrets: str) -> None:
        """Takes the webhook-secret of the node. More than one may be given while a secret is replaced."""
        prefix = "whsec_"
        self._keys = [base64.b64decode(s[len(prefix):] if s.startswith(prefix) else s) for s in secrets]
        if not self._keys or not all(self._keys):
            raise ValueError("the secret of the webhook is empty")

    def verify(self, body: bytes, headers: Mapping[str, str], *, now: float | None = None) -> list[dict[str, Any]]:
        """Returns the entries of a call, or raises InvalidSignature.

        body is as it came. headers is a mapping whose names are found in lower case, as those of Django, Flask, aiohttp
        and Starlette are.
        """
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        missing = [name for name in names if not headers.get(name)]
        if missing:
            raise InvalidSignature(f"{missing[0]} is missing")
        id, timestamp, signatures = (headers[name] for name in names)
        if not timestamp.isdecimal():
            raise InvalidSignature("webhook-timestamp is not a number")
        if abs((time.time() if now is None else now) - int(timestamp)) > self.TOLERANCE:
            raise InvalidSignature("the call is too old or from the future")
        if not self._signed(f"{id}.{timestamp}.".encode() + body, signatures):
            raise InvalidSignature("the signature is wrong")
        return json.loads(body).get("items", [])

    def _signed(self, text: bytes, signatures: str) -> bool:
        expected = [b"v1," + base64.b64encode(hmac.digest(key, text, hashlib.sha256)) for key in self._keys]
        return any(hmac.compare_digest(own, given.encode()) for given in signatures.split() for own in expected)
