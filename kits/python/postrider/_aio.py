from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator, Iterable

from ._client import Client


class AsyncClient:
    """A Client for asyncio: each call runs in a thread of the loop's pool, so it blocks nothing.

    Threads and not an HTTP library for asyncio: an app makes one short call for each activity, not one for each inbox,
    so there is nothing to gain from thousands of calls at a time, and no dependency is needed.
    """

    def __init__(self, url: str | None = None, token: str | None = None, **options: Any) -> None:
        """Takes the same as Client."""
        self._client = Client(url, token, **options)

    async def deliver(self, activity: Any, **call: Any) -> dict[str, Any]:
        """See Client.deliver."""
        return await asyncio.to_thread(self._client.deliver, activity, **call)

    async def put_key(self, key_id: str, private_key_pem: str) -> dict[str, Any]:
        """See Client.put_key."""
        return await asyncio.to_thread(self._client.put_key, key_id, private_key_pem)

    async def delete_key(self, key_id: str, *, when_idle: bool = False) -> None:
        """See Client.delete_key."""
        await asyncio.to_thread(self._client.delete_key, key_id, when_idle=when_idle)

    async def host(self, name: str) -> dict[str, Any]:
        """See Client.host."""
        return await asyncio.to_thread(self._client.host, name)

    async def host_action(self, name: str, action: str) -> dict[str, Any]:
        """See Client.host_action."""
        return await asyncio.to_thread(self._client.host_action, name, action)

    async def feed(
        self, after: str | None = None, *, type: Iterable[str] = (), host: Iterable[str] = (), limit: int = 500
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        """See Client.feed."""
        while True:
            entries, after = await asyncio.to_thread(self._client.feed_page, after, type=type, host=host, limit=limit)
            yield entries, after
            if not entries:
                return

    async def call(self, method: str, path: str, body: bytes | None = None) -> Any:
        """See Client.call."""
        return await asyncio.to_thread(self._client.call, method, path, body)
