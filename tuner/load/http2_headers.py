"""Header blocks of HTTP/2 as gRPC uses them, and what came of a call by them."""

import contextlib
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import hpack

from tuner.load.outcome import LONGEST

ERRORS = {
    **{0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR"},
    **{4: "SETTINGS_TIMEOUT", 5: "STREAM_CLOSED", 6: "FRAME_SIZE_ERROR", 7: "REFUSED_STREAM"},
    **{8: "CANCEL", 9: "COMPRESSION_ERROR", 10: "CONNECT_ERROR", 11: "ENHANCE_YOUR_CALM"},
    **{12: "INADEQUATE_SECURITY", 13: "HTTP_1_1_REQUIRED"},
}
_NOT_LET_IN = {b"401", b"403", b"7", b"16"}
"""HTTP's and gRPC's statuses for requests that may not be made."""


def header_block(fields: list[tuple[str, str]]) -> bytes:
    """HPACK literals that leave the encoder without state, so that the block is constant."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(of: str) -> bytes:
    raw = of.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, size = len(raw) - 127, bytearray([127])
    while rest >= 128:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes(size) + bytes([rest]) + raw


@dataclass(frozen=True)
class Fields:
    """What counts of a header block; ``fine`` are the trailers of a success."""

    status: bytes | None
    grpc_status: bytes | None
    message: bytes
    fine: bool
    usual: bool


class Reader:
    """HPACK's decoder, and the blocks that mean the same as long as it does not change."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder()
        self.known: dict[bytes, Fields] = {}

    def read(self, block: bytes) -> Fields:
        """Raises hpack.HPACKError; ``known`` need not be asked before."""
        found = {bytes(name): bytes(value) for name, value in self._decoder.decode(block, raw=True)}
        status, code = found.get(b":status"), found.get(b"grpc-status")
        usual = code is None and status is not None and (status == b"200" or status[:1] == b"1")
        message = found.get(b"grpc-message", b"")
        fields = Fields(status, code, message, status is None and code == b"0", usual)
        if _indexed_only(block):
            self.known[block] = fields
        else:  # it may have changed what indices mean
            self.known.clear()
        return fields


def _indexed_only(block: bytes) -> bool:
    """Whether all fields are references into the tables, which leave the decoder as it was."""
    position = 0
    with contextlib.suppress(IndexError):
        while position < len(block):
            if not block[position] & 128:
                return False
            more = block[position] == 255
            position += 1
            while more:
                more = block[position] >= 128
                position += 1
    return True


def outcome_of(head: Fields | None, trailers: Fields | None) -> tuple[bool, str]:
    """Success, or why not: gRPC's words and, where there are none, its or HTTP's status."""
    parts = [part for part in (head, trailers) if part is not None]
    status = next((part.status for part in parts if part.status is not None), b"200")
    code = next((part.grpc_status for part in parts if part.grpc_status is not None), None)
    if code == b"0" and status == b"200":
        whole = all(part.status is None or part.grpc_status is None for part in parts)
        return whole, "" if whole else "the server's reply has no message"
    message = next((part.message for part in parts if part.message), b"")
    said = unquote_to_bytes(message).decode(errors="replace")
    known = ""
    if status != b"200":
        known = f"HTTP status {status.decode(errors='replace')}"
    elif code is not None:
        known = f"gRPC status {code.decode(errors='replace')}"
    if not said or status in _NOT_LET_IN or code in _NOT_LET_IN:
        said = ": ".join(filter(None, (known, said)))
    return False, (said or "the server's reply has no gRPC status")[-LONGEST:]
