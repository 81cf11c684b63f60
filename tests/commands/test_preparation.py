"""What is prepared in a thread is there after the wait; what cannot be imported breaks nothing."""

import sys

from tuner.commands.preparation import SIMULATING, Preparation


def test_modules_are_there_after_the_wait() -> None:
    preparation = Preparation(("no_such_module", *SIMULATING))
    preparation.wait()  # nothing was started
    preparation.start()
    preparation.wait()
    assert all(name in sys.modules for name in SIMULATING)
