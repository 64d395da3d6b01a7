"""Nothing of the page comes from another host, and no request is larger than an upload may be."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Tags that name another host: previews, fonts, scripts. Nothing on the page needs them.
_TAGS = re.compile(
    r"""<(?:meta|link)\b[^>]*["'](?:https?:)?//[^>]*>|<script\b[^>]*\bsrc=["'](?:https?:)?//[^>]*>\s*</script>""",
    re.IGNORECASE,
)
_MORE = 1 << 16  # bytes of a form around its file


def own_hosts(html: str) -> str:
    """A page without the tags that would load something from elsewhere."""
    return _TAGS.sub("", html)


class OwnHosts:
    """Middleware of an ASGI app: rewrites its pages, and refuses bodies that are too large."""

    def __init__(self, app: Any, most: int) -> None:
        self._app, self._most = app, most + _MORE

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most:
            await _refuse(send)
            return
        await self._app(scope, receive, _Rewriting(send).send)


class _Rewriting:
    """Holds the body of a page until it is whole; all else goes through."""

    def __init__(self, send: Send) -> None:
        self._send, self._body = send, b""
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kinds = [value for name, value in message["headers"] if name == b"content-type"]
            if any(value.startswith(b"text/html") for value in kinds):
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish()
            return
        await self._send(message)

    async def _finish(self) -> None:
        assert self._start is not None
        body = own_hosts(self._body.decode("utf-8", "replace")).encode()
        kept = [item for item in self._start["headers"] if item[0] != b"content-length"]
        start = {**self._start, "headers": [*kept, (b"content-length", str(len(body)).encode())]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"detail":"the file is too large"}'})
