"""The head of an answer as nearly all streams have it: status 200, one body in chunks, nothing else about that body.

What is anything else (another status, a length, compression, an upgrade, an end of the connection, folded lines, tabs,
bytes beyond ASCII, a head that came in several reads) is not read here but left to aiohttp's parser. So is what could
be read in two ways: the rules are stricter than RFC 9112's, never more lenient.
"""

import re

_LONGEST = 8190
_MOST_LINES = 100  # aiohttp reads 128
_START = b"HTTP/1.1 200 "
_HEAD = re.compile(rb"HTTP/1\.1 200 [ -~]*\r\n((?:[!#-'*+.0-9A-Z^-z|~-]+:[ -~]*\r\n)*)\r\n")
_ABOUT_BODIES = ("content-length", "content-encoding", "upgrade", "trailer", "proxy-connection")


def chunked_head(data: bytes) -> tuple[dict[str, str], int] | None:
    """The headers, names in lower case, and where the body begins; None where `data` does not begin with such a head.

    Of a header that comes twice the last one counts; one about the body must not.
    """
    if not data.startswith(_START):
        return None
    found = _HEAD.match(data, 0, _LONGEST)
    if found is None:
        return None
    lines = [line.partition(":") for line in found[1].decode("ascii").split("\r\n")[:-1]]
    if len(lines) > _MOST_LINES:
        return None
    names = [name.lower() for name, _, _ in lines]
    headers = dict(zip(names, [value.strip(" ") for _, _, value in lines], strict=True))
    if (
        headers.get("transfer-encoding", "").lower() != "chunked"
        or names.count("transfer-encoding") > 1
        or headers.get("connection", "keep-alive").lower() != "keep-alive"
        or names.count("connection") > 1
        or any(name in headers for name in _ABOUT_BODIES)
    ):
        return None
    return headers, found.end()
