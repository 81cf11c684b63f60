"""gRPC's unary calls on HTTP/2: the headers of a request, and what a reply's headers say.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import struct
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from tuner.http2.events import Response
from tuner.http2.headers import header_block

SERVICE = "/inference.GRPCInferenceService/"
OK = b"0"
_MESSAGE = struct.Struct(">BI")
PREFIX_SIZE = _MESSAGE.size


def request_block(
    method: str, authority: str, tls: bool, headers: Iterable[tuple[str, str]]
) -> bytes:
    """The header block of calls of a method of KServe's service, with these headers in addition."""
    return header_block(
        [
            (":method", "POST"),
            (":scheme", "https" if tls else "http"),
            (":path", SERVICE + method),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *((name.lower(), value) for name, value in headers),
        ]
    )


def message_prefix(size: int) -> bytes:
    """What stands before a message of that size: it is not compressed."""
    return _MESSAGE.pack(0, size)


def is_one_message(body: bytes | bytearray) -> bool:
    """Whether a body is one message with its prefix, not compressed."""
    return message_size(body) == len(body) - PREFIX_SIZE


def message_size(body: bytes | bytearray) -> int | None:
    """What the prefix of a message that is not compressed says of its size; None without one."""
    if len(body) < PREFIX_SIZE:
        return None
    compressed, size = _MESSAGE.unpack_from(body)
    return None if compressed else int(size)


def succeeded(response: Response) -> bool:
    ok = response.trailers.get(b"grpc-status") == OK
    return ok and response.head.get(b":status", b"200") == b"200"


def http_status(response: Response) -> bytes:
    return response.head.get(b":status", b"200")


def grpc_status(response: Response) -> bytes | None:
    """The code, in digits; None if the reply has none."""
    return response.trailers.get(b"grpc-status", response.head.get(b"grpc-status"))


def grpc_message(response: Response) -> str:
    """The server's words, decoded from percent encoding; empty if it has none."""
    message = response.trailers.get(b"grpc-message") or response.head.get(b"grpc-message", b"")
    return unquote_to_bytes(message).decode(errors="replace")
