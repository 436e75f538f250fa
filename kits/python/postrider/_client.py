from __future__ import annotations

import json
import os
import random
import time
import urllib.parse
import uuid
from typing import Any, Iterable, Iterator, Mapping, Sequence

from ._connection import Connection, Error

_REPEATED = {0, 429, 502, 503, 504}
_PAGE = 500


class Client:
    """Calls a node. A client may be shared by threads and survives a fork.

    A call that got no answer, or 429, 502, 503 or 504, is repeated with growing waits, or after the time that the node
    asked for. No call takes effect twice by that. A call that still fails raises an Error.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30,
        retries: int = 4,
        max_wait: float = 15,
    ) -> None:
        """url and token default to the variables POSTRIDER_URL and POSTRIDER_TOKEN.

        timeout is in seconds, for each attempt. retries is how often a call is repeated, max_wait the longest wait in seconds before a repetition: if the node
        asks for more, the Error is raised at once, with its retry_after.
        """
        url = url or os.environ.get("POSTRIDER_URL", "http://127.0.0.1:8080")
        self._connection = Connection(url, token or os.environ.get("POSTRIDER_TOKEN"), timeout)
        self._retries = retries
        self._max_wait = max_wait

    def deliver(
        self,
        activity: str | bytes | Mapping[str, Any],
        *,
        key_id: str | None = None,
        key: Mapping[str, Any] | None = None,
        inboxes: Sequence[str] | None = None,
        recipients: Sequence[Mapping[str, Any]] | None = None,
        priority: str | None = None,
        ordering_key: str | None = None,
        expires_in: str | None = None,
        final_statuses: Sequence[int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Hands an activity over, and returns the answer: id, accepted, duplicates, rejected, url.

        If no inbox was accepted, accepted is 0 and the inboxes are in rejected; that is no Error.

        activity is text, which is sent byte for byte, or a mapping. key_id names a key that was put before; key brings
        it along: {"key_id": …, "private_key_pem": …, "pin": …}. Each recipient has inbox, shared_inbox, id or ids,
        headers.

        idempotency_key defaults to a random one, so repetitions by this client deliver nothing twice. Pass your own
        (such as the ID of a task or of an outbox row) if your program may repeat the call too.
        """
        rest = {
            "key_id": key_id,
            "key": key,
            "inboxes": inboxes,
            "recipients": recipients,
            "priority": priority,
            "ordering_key": ordering_key,
            "expires_in": expires_in,
            "final_statuses": final_statuses,
            "metadata": metadata,
        }
        members = json.dumps({name: value for name, value in rest.items() if value is not None}, default=list)
        body = b'{"activity":%b,%b' % (_text(activity), members[1:].encode())
        try:
            return self.call("POST", "/v1/activities", body, {"Idempotency-Key": idempotency_key or str(uuid.uuid4())})
        except Error as e:
            if not e.no_inbox_accepted:
                raise
            rejected = [{name: fault.get(name) for name in ("inbox", "reason", "detail")} for fault in e.errors]
            return {"accepted": 0, "duplicates": 0, "rejected": rejected}

    def put_key(self, key_id: str, private_key_pem: str) -> dict[str, Any]:
        """Stores or replaces a private key, in PEM."""
        return self.call("PUT", "/v1/keys", json.dumps({"key_id": key_id, "private_key_pem": private_key_pem}).encode())

    def delete_key(self, key_id: str, *, when_idle: bool = False) -> None:
        """Removes a key: at once, or with when_idle after the last delivery that waits to be signed by it."""
        self.call("DELETE", _path("/v1/keys", key_id=key_id, when="idle" if when_idle else None))

    def keys(self) -> Iterator[dict[str, Any]]:
        """Yields the public halves of all keys."""
        return self.each("/v1/keys")

    def hosts(self, *, state: str | None = None, q: str | None = None) -> Iterator[dict[str, Any]]:
        """Yields hosts."""
        return self.each("/v1/hosts", state=state, q=q)

    def host(self, name: str) -> dict[str, Any]:
        """Returns a host."""
        return self.call("GET", _host(name))

    def host_deliveries(self, name: str) -> Iterator[dict[str, Any]]:
        """Yields what is pending for a host, in the order accepted."""
        return self.each(f"{_host(name)}/deliveries")

    def host_action(self, name: str, action: str) -> dict[str, Any]:
        """pause, resume, block, unblock, reset, probe or seen. Returns the host."""
        return self.call("POST", f"{_host(name)}/{action}")

    def feed_page(
        self, after: str | None = None, *, type: Iterable[str] = (), host: Iterable[str] = (), limit: int = _PAGE
    ) -> tuple[list[dict[str, Any]], str]:
        """Returns a page of feed. No entries: there is no more for now."""
        page = self.call("GET", _path("/v1/feed", after=after, type=_listed(type), host=_listed(host), limit=limit))
        return page["items"], page["next_cursor"]

    def feed(
        self, after: str | None = None, *, type: Iterable[str] = (), host: Iterable[str] = (), limit: int = _PAGE
    ) -> Iterator[tuple[list[dict[str, Any]], str]]:
        """Yields what happened after a cursor, oldest first, until there is no more for now: pages of entries, each with
        the cursor after it, which the caller keeps once it has handled the page. The last page has no entries.

        after "now" begins at the end; None at the oldest entry that the node still has. type and host filter.
        """
        while True:
            entries, after = self.feed_page(after, type=type, host=host, limit=limit)
            yield entries, after
            if not entries:
                return

    def each(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yields the items of any list of the API."""
        while True:
            page = self.call("GET", _path(path, limit=_PAGE, **query))
            yield from page["items"]
            query["cursor"] = page.get("next_cursor")
            if not query["cursor"]:
                return

    def call(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Any:
        """Makes any call and returns the answer, None if it has no body. body is JSON."""
        tries = 0
        while True:
            try:
                return self._connection.call(method, path, body, headers)
            except Error as e:
                wait = 0.25 * 2**tries * random.uniform(1, 1.5) if e.retry_after is None else e.retry_after
                if tries >= self._retries or e.status not in _REPEATED or wait > self._max_wait:
                    raise
                tries += 1
                time.sleep(wait)


def _text(activity: str | bytes | Mapping[str, Any]) -> bytes:
    if isinstance(activity, bytes):
        return activity
    return (activity if isinstance(activity, str) else json.dumps(activity)).encode()


def _listed(values: Iterable[str]) -> str | None:
    return (values if isinstance(values, str) else ",".join(values)) or None


def _host(name: str) -> str:
    return "/v1/hosts/" + urllib.parse.quote(name, safe="")


def _path(path: str, **query: Any) -> str:
    query = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path
