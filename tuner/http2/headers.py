"""Header blocks: constant ones to send, and a reader that remembers what it has decoded."""

from collections.abc import Iterable, Mapping

import hpack

_MOST_KNOWN = 256
Headers = Mapping[bytes, bytes]
"""Values by name; of a name that comes twice, the last value."""


def header_block(fields: Iterable[tuple[str, str]]) -> bytes:
    """HPACK literals that leave the encoder without state, so that the block is constant."""
    return b"".join(b"\0" + _literal(name) + _literal(value) for name, value in fields)


def _literal(text: str) -> bytes:
    """A string literal without Huffman coding (RFC 7541, section 5.2)."""
    raw = text.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, size = len(raw) - 127, bytearray([127])
    while rest >= 128:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes(size) + bytes([rest]) + raw


class HeaderReader:
    """HPACK's decoder, and the blocks that mean the same as long as it does not change."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder()
        self.known: dict[bytes, Headers] = {}

    def read(self, block: bytes) -> Headers:
        """Raises hpack.HPACKError; for speed, look into ``known`` before."""
        pairs = self._decoder.decode(block, raw=True)
        headers = {bytes(name): bytes(value) for name, value in pairs}
        if _indexed_only(block):
            if len(self.known) >= _MOST_KNOWN:  # a server has a handful of them
                self.known.clear()
            self.known[block] = headers
        else:  # it may have changed what indices mean
            self.known.clear()
        return headers


def _indexed_only(block: bytes) -> bool:
    """Whether all fields are references into the tables, which leave the decoder as it was."""
    position, size = 0, len(block)
    while position < size:
        first = block[position]
        if not first & 128:
            return False
        position += 1
        if first == 255:  # the index goes on in bytes whose high bit says that more follow
            while block[position] & 128:
                position += 1
            position += 1
    return True
