"""The examples of docs/reference/client.md run as they stand, against a real Triton."""

import re
from pathlib import Path

import pytest

from tuner.servers.base import Server

TEXT = (Path(__file__).parents[2] / "docs/reference/client.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.triton
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs_and_prints_what_it_says(
    number: int, triton: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    source = EXAMPLES[number]
    here = source.replace("localhost:8000", triton.endpoints.http)
    here = here.replace("localhost:8001", str(triton.endpoints.grpc))
    place = f"docs/reference/client.md, example {number + 1}"
    exec(compile(here, place, "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out
    for said in re.findall(r"print\(.*?\)  # (.*)", source):
        assert said in printed
