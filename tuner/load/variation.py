"""Generated requests that do not repeat: each is changed a little before it is sent.

A server with a response cache answers a request that it has seen without executing the model. Who
measures with a few requests in turn would measure the cache.
"""

import random
import struct
from dataclasses import dataclass

_ENOUGH_BITS = 32
"""A run sends millions of requests: with fewer different ones some would come again."""
DIGIT, INTEGER = "digit", "integer"


@dataclass(frozen=True)
class Span:
    """A place in a message that may be changed. ``kind`` is the form of a float in [0, 1) as struct
    has it, or says that it is an integer, 0 or 1, or a digit of a text. ``bits`` is how much
    different values tell.
    """

    offset: int
    kind: str
    bits: float


@dataclass(frozen=True)
class Variation:
    """The spans of each request of a pool; ``repeated`` is the share of requests that are sent as
    they are, which a cache then knows.
    """

    spans: tuple[tuple[Span, ...], ...]
    repeated: float = 0.0

    def part(self, places: tuple[int, ...]) -> "Variation":
        """The same of the requests at these places of the pool."""
        return Variation(tuple(self.spans[place] for place in places), self.repeated)

    @property
    def is_enough(self) -> bool:
        """Whether no two requests of a run will be the same."""
        return all(sum(span.bits for span in each) >= _ENOUGH_BITS for each in self.spans)


class Varier:
    """Changes requests, each time in another way."""

    def __init__(self, variation: Variation, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._variation = variation

    def __call__(self, index: int, message: bytes) -> bytes:
        """Request ``index`` of the run, whose message is that of its place in the pool."""
        draw = self._random.random
        if self._variation.repeated and draw() < self._variation.repeated:
            return message
        changed = bytearray(message)
        for span in self._variation.spans[index % len(self._variation.spans)]:
            if span.kind == DIGIT:
                changed[span.offset] = ord("0") + int(10 * draw())
            elif span.kind == INTEGER:
                changed[span.offset] = int(2 * draw())
            else:
                struct.pack_into(span.kind, changed, span.offset, draw())
        return bytes(changed)
