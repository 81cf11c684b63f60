"""Models that hang, get slow, or answer with errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.faults.fault import LAUNCH, Fault, Scene, Strike
from benchmarks.faults.processes import NO_ANSWER, await_effect, has_failed


def _mood(text: str, until: Callable[[Scene], bool] | None = None) -> Strike:
    """It stays in that mood until something is seen, or to the end."""

    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        scene.place.mood.write_text(text, encoding="utf-8")
        if until is not None:
            await_effect(scene, until)
            scene.place.mood.unlink()
        yield
        scene.place.mood.unlink(missing_ok=True)

    return strike


MOODS = (
    Fault(
        "load-hangs",
        "the model hangs while it loads",
        _mood("load hangs", has_failed),
        (LAUNCH,),
        causes=("timed out",),
        why="within 15 s",
        fails=True,
    ),
    Fault(
        "inference-hangs",
        "the model hangs at an inference",
        _mood("inference hangs", has_failed),
        causes=("died", None),
        why=NO_ANSWER,
        fails=True,
        trials=4,
        limit=120.0,
    ),
    Fault(
        "stop-hangs",
        "the model hangs when it is to end",
        _mood("stop hangs"),
        trials=4,
        limit=90.0,
    ),
    Fault(
        "inference-slows",
        "the model is ten times slower from then on",
        _mood("inference is slow"),
        limit=120.0,
    ),
    Fault(
        "inference-fails",
        "every inference is answered with an error",
        _mood("inference fails", has_failed),
        causes=(None,),
        why="the weights are gone",
        fails=True,
        trials=4,
    ),
)
