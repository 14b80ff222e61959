"""What the answer to an HTTP probe says, from its bytes (RFC 9112).

A client library would do far more than is wanted: follow redirects, keep connections and cookies,
decompress, buffer a body of any size, and cost a millisecond.  This reads the status, and up to
4 KiB of the body for people to see, and is done: whatever else comes is nobody's concern.

Always true: it holds no more than ``HEAD_BYTES_MAX`` and the bounded body.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from waypost.checks import OUTPUT_BYTES_MAX, PROBE_HEADER, Check, CheckStatus
from waypost.node.checks.found import Found

HEAD_BYTES_MAX: Final = 16 * 1024
PRELUDES_MAX: Final = 8
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)(?: ([^\r\n]{0,200})[^\r\n]*)?\r?$")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")


def request_of(check: Check) -> bytes:
    """The request that a check sends, encoded."""
    url = urlsplit(check.target)
    path = url.path or "/"
    if url.query:
        path += "?" + url.query
    headers = {"host": url.netloc, "user-agent": "Waypost health check", "accept": "*/*"}
    headers |= {name.lower(): value for name, value in check.headers.items()}
    headers |= {"connection": "close", PROBE_HEADER: "1"}
    body = check.body.encode()
    if body or check.method in ("POST", "PUT", "PATCH"):
        headers["content-length"] = str(len(body))
    lines = [f"{check.method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii", "replace") + body


def status_of(code: int) -> CheckStatus:
    """What a status code means: 2xx is good, and "too many requests" only a warning."""
    if 200 <= code < 300:
        return "passing"
    return "warning" if code == 429 else "critical"


class Answer:
    """Reads one answer."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_check",
        "_code",
        "_head",
        "_is_chunked",
        "_preludes",
        "_reason",
    )

    def __init__(self, check: Check) -> None:
        self._check = check
        self._head = b""
        self._code = 0
        self._reason = ""
        self._preludes = 0
        self._body = b""
        self._body_bytes = -1
        """How many there are, as far as the answer says."""
        self._is_chunked = False

    def feed(self, data: bytes) -> Found | None:
        """Take what came; tell what was found once that is known."""
        if self._code:
            return self._take_body(data)
        self._head += data
        while True:
            if len(self._head) >= 5 and not self._head.startswith(b"HTTP/"):
                return self._wrong("the answer is not HTTP/1")
            end = _END_OF_HEAD.search(self._head[:HEAD_BYTES_MAX])
            if end is None:
                if len(self._head) >= HEAD_BYTES_MAX:
                    return self._wrong(f"its headers are longer than {HEAD_BYTES_MAX // 1024} KiB")
                return None
            head, rest = self._head[: end.start()], self._head[end.end() :]
            line, _, fields = head.partition(b"\n")
            found = _STATUS_LINE.match(line)
            if found is None:
                return self._wrong("the answer is not HTTP/1")
            if 100 <= int(found[1]) < 200:  # informational: the answer is still to come
                self._head = rest
                self._preludes += 1
                if self._preludes > PRELUDES_MAX:
                    return self._wrong(f"more than {PRELUDES_MAX} informational answers")
                continue
            self._code, self._reason = int(found[1]), (found[2] or b"").decode("latin-1").strip()
            self._head = b""
            self._read_fields(fields)
            return self._take_body(rest)

    def end(self) -> Found:
        """Nothing more comes."""
        if not self._code:
            return self._wrong("the connection was closed without an answer")
        return self._found()

    def _read_fields(self, fields: bytes) -> None:
        for line in fields.splitlines():
            name, _, value = line.partition(b":")
            match name.strip().lower():
                case b"content-length" if value.strip().isdigit():
                    self._body_bytes = int(value.strip()[:18])
                case b"transfer-encoding" if b"chunked" in value.lower():
                    self._is_chunked = True
                case _:
                    pass
        if self._check.method == "HEAD" or self._code in (204, 304):
            self._body_bytes = 0

    def _take_body(self, data: bytes) -> Found | None:
        room = 2 * OUTPUT_BYTES_MAX if self._is_chunked else OUTPUT_BYTES_MAX
        self._body += data[: room - len(self._body)]
        is_done = len(self._body) >= room or 0 <= self._body_bytes <= len(self._body)
        if self._is_chunked:
            is_done = is_done or b"\n0\r\n" in b"\n" + self._body
        return self._found() if is_done else None

    def _found(self) -> Found:
        body = _unchunked(self._body) if self._is_chunked else self._body
        shown = body[:OUTPUT_BYTES_MAX].decode("utf-8", "replace")
        said = f"HTTP {self._check.method} {self._check.target}: {self._code} {self._reason}"
        return Found(status_of(self._code), f"{said} Output: {shown}")

    def _wrong(self, why: str) -> Found:
        return Found("critical", f"HTTP {self._check.method} {self._check.target}: {why}")


def _unchunked(body: bytes) -> bytes:
    """Take the chunks' sizes out (RFC 9112, 7.1), as far as they are there."""
    found = b""
    while body:
        line, _, body = body.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0][:8], 16)
        except ValueError:
            break
        if size <= 0:
            break
        found += body[:size]
        body = body[size + 2 :]
    return found
