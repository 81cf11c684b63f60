"""One rule of thumb and what became of it."""

from tuner.records.results import Record


class Claim(Record):
    text: str
    measured: str
    holds: bool | None
    why: str


def unknown(text: str, why: str) -> Claim:
    return Claim(text=text, measured="-", holds=None, why=why)
