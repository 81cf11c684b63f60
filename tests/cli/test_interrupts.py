"""Which signals end a command, and how often."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import signal, sys, time
from tuner.cli.interrupts import hear_no_more, listen
listen()
heard = 0
print("listening", flush=True)
for _ in range(2):
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        heard += 1
        print("heard", heard, flush=True)
        if "quiet" in sys.argv:
            hear_no_more()
            break
signal.raise_signal(signal.SIGINT)
signal.raise_signal(signal.SIGTERM)
print("ended", flush=True)
"""


def said(*words: str, before: tuple[str, ...] = (), send: signal.Signals) -> list[str]:
    """What the script says to a signal at each line that it says."""
    command = ["env", "--default-signal=INT", *before, sys.executable, "-c", SCRIPT, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if lines[-1] != "ended":
                process.send_signal(send)
    return lines


@pytest.mark.parametrize("send", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_two_are_heard_and_no_further_one_disturbs_the_end(send: signal.Signals) -> None:
    assert said(send=send) == ["listening", "heard 1", "heard 2", "ended"]


def test_one_is_heard_where_all_is_done() -> None:
    assert said("quiet", send=signal.SIGINT) == ["listening", "heard 1", "ended"]


def test_what_it_was_started_to_ignore_it_ignores() -> None:
    script = "import signal; from tuner.cli.interrupts import listen; listen()\n"
    script += "signal.raise_signal(signal.SIGHUP); print('goes on')"
    done = subprocess.run(
        ["nohup", sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "goes on\n"
