from __future__ import annotations

import http.client
import json
import os
import threading
import urllib.parse
from typing import Any, Mapping

from ._version import __version__


class Error(Exception):
    """The node refused a call, or could not be reached."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: int | None = None) -> None:
        self.status = status  #: the HTTP status; 0 if there was no answer
        self.problem = problem  #: the problem document of the answer (RFC 9457)
        self.retry_after = retry_after  #: the seconds after which the node asked to be called again
        faults = [f"{fault.get('location')} {fault.get('message')}" for fault in self.errors]
        super().__init__("; ".join([str(status), str(problem.get("detail", "")), *faults]))

    @property
    def errors(self) -> list[Mapping[str, Any]]:
        """The faults of the call, each with location, message and code."""
        return self.problem.get("errors") or []

    @property
    def temporary(self) -> bool:
        """Reports whether the same call may succeed later."""
        return self.status == 0 or self.status == 429 or self.status >= 500

    @property
    def no_inbox_accepted(self) -> bool:
        """Reports whether the call was valid, but no inbox was accepted."""
        return str(self.problem.get("type", "")).endswith("/problems/no-inbox-accepted")

    @property
    def idempotency_mismatch(self) -> bool:
        """Reports whether the Idempotency-Key belongs to an accepted call with other bytes."""
        return any(fault.get("code") == "idempotency_mismatch" for fault in self.errors)


class _HTTP(http.client.HTTPConnection):
    def __del__(self) -> None:
        self.close()


class _HTTPS(http.client.HTTPSConnection):
    def __del__(self) -> None:
        self.close()


class Connection:
    """Makes single HTTP calls, over one kept connection for each thread and process."""

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        self._url = urllib.parse.urlsplit(url)
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json", "User-Agent": f"postrider-python/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._kept = threading.local()

    def call(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        """Returns the answer, or raises an Error."""
        if body is None and method == "POST":
            body = b"{}"
        try:
            connection = self._open()
            connection.request(method, self._url.path.rstrip("/") + path, body, {**self._headers, **headers})
            response = connection.getresponse()
            return _read(response, response.read())
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as e:
            self._close()
            raise Error(0, {"detail": f"{type(e).__name__}: {e}"}) from e

    def _open(self) -> http.client.HTTPConnection:
        if getattr(self._kept, "pid", None) == os.getpid():
            return self._kept.connection
        of = _HTTPS if self._url.scheme == "https" else _HTTP
        self._kept.connection = of(self._url.hostname or "", self._url.port, timeout=self._timeout)
        self._kept.pid = os.getpid()
        return self._kept.connection

    def _close(self) -> None:
        self._kept.pid = None
        if connection := getattr(self._kept, "connection", None):
            connection.close()


def _read(response: http.client.HTTPResponse, text: bytes) -> Any:
    if 200 <= response.status < 300:
        return json.loads(text) if text else None
    is_json = response.headers.get_content_type().endswith("json")
    problem = json.loads(text) if is_json else {"detail": response.reason}
    wait = response.headers.get("Retry-After", "")
    raise Error(response.status, problem, int(wait) if wait.isdecimal() else None)
