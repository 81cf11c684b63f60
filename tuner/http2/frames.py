"""Frames of HTTP/2: their layout, kinds, flags and error codes (RFC 9113, sections 4, 6 and 7)."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

END_STREAM = ACK = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 32

ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(2, 6)
"""Names of settings."""

ERROR_NAMES = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT"),
    *("STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR"),
    *("CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)
REFUSED_STREAM, CANCEL = ERROR_NAMES.index("REFUSED_STREAM"), ERROR_NAMES.index("CANCEL")

LARGEST = 2**31 - 1
"""The largest window, and the last stream."""
DEFAULT_WINDOW, DEFAULT_FRAME_SIZE, LARGEST_FRAME_SIZE = 65535, 1 << 14, (1 << 24) - 1

HEAD = struct.Struct(">IBI")
"""Length (24 bits) and kind in one number, flags, stream."""
NUMBER = struct.Struct(">I")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings_frame(*settings: tuple[int, int]) -> bytes:
    """A SETTINGS frame of names and values."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in settings))


def error_name(code: int) -> str:
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else str(code)
