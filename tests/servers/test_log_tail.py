"""Of a server's log, the end is told."""

import tracemalloc
from pathlib import Path

from tuner.servers.base import tail


def test_the_last_lines_before_the_usage_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\n\n+---+\ntw\xff\nUsage: tritonserver [options]\n  --help\n")
    assert tail(log) == "one\ntw\ufffd"
    assert tail(tmp_path / "none") == ""


def test_a_large_log_is_not_read_as_a_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 99 + b"\n")
    with log.open("ab") as file:
        for _ in range(200):
            file.write(b"y" * (1 << 18))
        file.write(b"\nthe reason\n")
    tracemalloc.start()
    try:
        assert tail(log).endswith("the reason")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20  # of 50 MB
