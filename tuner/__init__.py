"""tuner finds the Triton configuration that serves the most requests within a latency SLA.

``tuner.search``, ``measure``, ``gate``, ``simulate`` and ``compare`` do what the commands of their
names do.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.api import compare as compare
    from tuner.api import gate as gate
    from tuner.api import measure as measure
    from tuner.api import search as search
    from tuner.api import simulate as simulate
    from tuner.experiment.model import Experiment as Experiment
    from tuner.version import __version__ as __version__

__all__ = ["Experiment", "__version__", "compare", "gate", "measure", "search", "simulate"]


def __getattr__(name: str) -> Any:
    """The API, imported once it is asked for: the command line starts without it."""
    if name == "__version__":
        from tuner.version import __version__

        return __version__
    if name == "Experiment":
        from tuner.experiment.model import Experiment

        return Experiment
    if name in __all__:
        from tuner import api

        return getattr(api, name)
    raise AttributeError(f"module 'tuner' has no attribute {name!r}")
