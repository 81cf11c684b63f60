"""What takes a while before the first load, done while the first server is launched."""

import contextlib
import threading
from importlib import import_module

MEASURING = ("scipy.special",)
"""What judging probes needs besides what a launch needs."""
SIMULATING = (*MEASURING, "scipy.optimize", "scipy.linalg", "tuner.simulator.compiled")
"""The same for a search that simulates; the last one compiles the simulator, or loads it."""

TOGETHER = ("tuner.simulator.compiled_network",)
"""What a search of several models needs in addition."""


class Preparation:
    """Imports modules in a thread, the slow ones that a launch does not need.

    A launch is mostly waiting for Triton, so their seconds are free; ``start`` belongs right before
    it. ``wait`` keeps the first load from beginning earlier: what computes beside it would make it
    late. An import that fails is tried again, and its error raised, where the module is needed.
    """

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._modules = modules
        self._thread = threading.Thread(target=self._run, name="tuner-preparation", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait(self) -> None:
        """Until all that was started is done."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        for module in self._modules:
            with contextlib.suppress(Exception):
                import_module(module)
