"""Of an exception in a model's Python, users see the exception and not its frames."""

import pytest

from tuner.servers.python_errors import news, without_frames

BOUND = (
    "Failed to process the request(s) for model 'm_0_0', message: ValueError: 输入太长\n\nAt:\n"
    "  /models/m/1/model.py(12): _check\n  /models/m/1/model.py(30): execute\n"
)
TRACEBACK = """load failed: Traceback (most recent call last):
  File "/models/m/1/model.py", line 3, in initialize
    weights = WEIGHTS[name]
KeyError: 'size'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/models/m/1/model.py", line 5, in initialize
    raise RuntimeError("poids illisibles : clé inconnue")
RuntimeError: poids illisibles : clé inconnue
"""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            BOUND,
            "Failed to process the request(s) for model 'm_0_0', message: ValueError: 输入太长",
        ),
        (TRACEBACK, "load failed: RuntimeError: poids illisibles : clé inconnue"),
        (
            "version 1 is at UNAVAILABLE state: Internal: OSError: none\n\nAt:\n"
            "  /models/m/1/model.py(8): initialize\n;\n",
            "version 1 is at UNAVAILABLE state: Internal: OSError: none",
        ),
        ("unexpected shape for input 'x'", "unexpected shape for input 'x'"),
        ("", ""),
    ],
)
def test_the_exception_without_frames(message: str, expected: str) -> None:
    assert without_frames(message) == expected


def test_all_of_it_with_tuner_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_DEBUG", "1")
    assert without_frames(BOUND) == BOUND


def test_a_line_of_the_log_that_repeats_the_message() -> None:
    message = "load failed for model 'm': version 1 is at UNAVAILABLE state: ValueError: no size"
    line = (
        "\"failed to load 'm' version 1: Internal: ValueError: no size\\n\\nAt:\\n  /m.py(3): f\""
    )
    other = '"no CUDA device: driver too old"'
    assert news([line, other], message) == ["no CUDA device: driver too old"]


GROUP = """load failed:   + Exception Group Traceback (most recent call last):
  |   File "/models/m/1/model.py", line 3, in initialize
  | ExceptionGroup: unhandled errors (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: tokenizer.json is missing
    +------------------------------------
"""


def test_a_group_of_exceptions_is_told_whole() -> None:
    assert "tokenizer.json is missing" in without_frames(GROUP)


@pytest.mark.parametrize(
    "filling", ["\n", " \n", "\n;", "a\n", "Traceback (most recent call last):\n"]
)
def test_a_message_of_a_hostile_server_takes_no_time(filling: str) -> None:
    without_frames("a" + filling * 200_000 + "b")  # the test's time limit holds it
