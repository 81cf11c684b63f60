"""Inputs that are nearly right, or wrong on purpose; each follows from a seed and its number."""

import random
import re
from collections.abc import Callable, Sequence

NUMBERS = (
    *(b"0", b"-1", b"-0.0", b"1e999", b"-1e999", b"1e-400", b"nan", b"inf", b".inf", b".nan"),
    *(b"NaN", b"Infinity", b"2147483648", b"9223372036854775808", b"18446744073709551616"),
    *(b"9" * 30, b"9" * 400, b"9" * 5000, b"0." + b"0" * 400 + b"1", b"0x" + b"f" * 5000),
    *(b"1" + b":59" * 3, b"1" + b":59" * 500, b"1_000", b"1e3", b"+1", b"00", b"1000000000"),
    *("²".encode(), "٣".encode(), "１".encode(), b"1.", b".5", b"--1", b"0b1", b"0o17"),
)
"""What may stand where a number is expected."""
VALUES = (
    *(b"true", b"null", b"~", b"[]", b"{}", b'""', b"''", b"yes", b"[[]]", b"[null]", b"{a: 1}"),
    *(b"2020-01-01", b"2020-13-45", b"0001-01-01T00:00:00+23:59", b"!!binary aGk=", b"!!set {a}"),
    *(b"!!int x", b"!!int ''", b"!!float ''", b"!!bool x", b"!!timestamp x", b"!!omap [a: 1]"),
    *(b"!!pairs [a: 1]", b"!!python/object:os.system x", b"&a [*a]", b"*a", b"? [a]\n: b", b"<<"),
    *(b"- ", b": ", b", ", b"|", b">", b"#", b"%", b"@", b"`", b"---\n", b"...\n", b"\t"),
    *(b"{", b"}", b"[", b"]", b'"', b"'", b"\\", b"\n", b"\r", b"=", b"+", b"*", b"/", b"<"),
)
"""What may stand where any value is expected, and what has a meaning in YAML, JSON or options."""
BYTES = (
    *(b"\0", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\xa0", b"\x1b[2J"),
    *("\u2028".encode(), "\u202e".encode(), "ſ".encode(), "😀".encode(), b"\x7f", b"\x85", b" "),
)
"""What is not text, or not as it looks."""
_LINE = re.compile(rb"[^\n]*\n?")
_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
_WORD = re.compile(rb"[\w.]+")
_LONG = (10, 100, 1000, 5000)
"""Times that a part is repeated; the larger ones are rarer."""
_LONGEST = 300_000
"""Bytes: what is longer tells no more, and takes longer."""

LAUGHS = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(12)
)
BOMBS = (
    b"",
    b" ",
    LAUGHS,
    LAUGHS.replace(b"x", b"x" * 2000),
    b"parameters: &p {max_batch_size: [1]}\nname: *p\n",
    b"a: &a {x: 1}\n" + b"".join(b"k%d: {<<: [*a, *a, *a]}\n" % i for i in range(500)),
    *(opening * 100_000 for opening in (b"[", b"{", b"- ", b"? ", b"(", b'{"a":')),
    b"[" * 60 + b"]" * 60,
    b"[" * 900 + b"]" * 900,
    b"{a: " * 900 + b"1" + b"}" * 900,
    b"- " * 900 + b"1",
    b" " * 100_000 + b"x",
    b"x" + b" " * 100_000 + b"x",
    b"p99<" + b" " * 100_000 + b"?",
    b"cpu<" + b"x " * 50_000 + b"?",
    b"p99 " + b" " * 100_000 + b"?",
    b"1" * 100_000,
    b"x" * 200_000,
    b"1" * 100_000 + b"ms",
    b",".join([b"1"] * 100_000),
    b",".join(b"%d" % i for i in range(1, 100_000)),
    b"+".join([b"p99/1ms"] * 20_000),
    b"0-99999," * 2000,
    b":".join([b"0-99999"] * 2000),
    b"a" * 5000 + b".yaml",
    b"a/" * 5000,
    b"a." * 50_000,
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'"\\ud800"',
    b"1" + b":59" * 20_000,
    b"a: " + b"9" * 5000,
    b"a: 0x" + b"f" * 50_000,
    b"a: 1\na: 2\n",
)
"""Inputs that once made some program or other hang, swell or fail."""


def make(seeds: Sequence[bytes], words: Sequence[bytes], seed: int, number: int) -> bytes:
    """The input of that number: first the seeds as they are, then the bombs, then changed seeds."""
    whole = [*seeds, *BOMBS]
    if number < len(whole):
        return whole[number]
    rng = random.Random(f"{seed} {number}")
    content = rng.choice(seeds)
    for _ in range(1 + int(rng.expovariate(0.6))):
        content = rng.choice(_CHANGES)(content, rng, (*seeds, *words))[:_LONGEST]
    return content


def _span(content: bytes, rng: random.Random, longest: int = 40) -> tuple[int, int]:
    start = rng.randint(0, len(content))
    return start, min(len(content), start + rng.randint(0, longest))


def _flip(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    if not content:
        return b"\x01"
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def _delete(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def _cut(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return content[: rng.randint(0, len(content))]


def _repeat(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = _span(content, rng, 20)
    times = _LONG[min(int(rng.expovariate(1)), len(_LONG) - 1)]
    return content[:end] + content[start:end] * times + content[end:]


def _insert(content: bytes, rng: random.Random, words: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(content))
    return content[:at] + _any(rng, words) + content[at:]


def _replace(content: bytes, rng: random.Random, words: Sequence[bytes]) -> bytes:
    start, end = _span(content, rng, 10)
    return content[:start] + _any(rng, words) + content[end:]


def _renumber(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return _at_match(_NUMBER, content, rng, rng.choice(NUMBERS))


def _reword(content: bytes, rng: random.Random, words: Sequence[bytes]) -> bytes:
    return _at_match(_WORD, content, rng, _any(rng, words))


def _at_match(kind: re.Pattern[bytes], content: bytes, rng: random.Random, by: bytes) -> bytes:
    found = list(kind.finditer(content))
    if not found:
        return content + by
    match = rng.choice(found)
    return content[: match.start()] + by + content[match.end() :]


def _move_lines(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    lines = _LINE.findall(content)
    taken, at = rng.choice(lines), rng.randint(0, len(lines))
    if rng.random() < 0.5:
        lines.remove(taken)
    return b"".join([*lines[:at], taken, *lines[at:]])


def _nest(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    opening, closing = rng.choice([(b"[", b"]"), (b"{a: ", b"}"), (b'{"a":', b"}"), (b"- ", b"")])
    start, end = _span(content, rng, 10)
    depth = rng.choice((1, 3, 30, 300, 3000))
    return content[:start] + opening * depth + content[start:end] + closing * depth + content[end:]


def _splice(content: bytes, rng: random.Random, words: Sequence[bytes]) -> bytes:
    other = rng.choice(words)
    return content[: rng.randint(0, len(content))] + other[rng.randint(0, len(other)) :]


def _any(rng: random.Random, words: Sequence[bytes]) -> bytes:
    chosen = rng.choice((NUMBERS, VALUES, BYTES, words))
    return rng.choice(chosen)[:_LONGEST]


_CHANGES: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    *(_flip, _delete, _cut, _repeat, _insert, _insert, _replace, _renumber, _renumber),
    *(_reword, _reword, _move_lines, _nest, _splice),
)
