"""What happens around a search: ports that are taken, a second tuner, a clock that jumps."""

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.faults.fault import OK, STARTED, TRIAL, Fault, Scene
from benchmarks.faults.place import Place
from benchmarks.faults.session import children, words_of

_PORT = re.compile(r"--(?:http|grpc|metrics)-port=(\d+)")
_JUMPS = (-86_400, -3_600, -90, 90, 3_600, 86_400, 20 * 365 * 86_400)
"""Seconds: a day or an hour back, minutes, and twenty years."""


@contextmanager
def _ports_taken(scene: Scene) -> Iterator[None]:
    """Somebody listens on a port of each server before the server does, where it can; of no more
    than two in a row, as a third one would be bad luck that tuner does not reckon with.
    """
    with ExitStack() as stack, _Thief(scene, stack):
        yield


class _Thief:
    def __init__(self, scene: Scene, stack: ExitStack) -> None:
        self._scene, self._stack = scene, stack
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._steal)

    def _steal(self) -> None:
        seen: set[int] = set()
        left = 2
        while not self._over.wait(0.002):
            session = self._scene.session
            for pid in set() if session is None else children(session.pid) - seen:
                if ports := _PORT.findall(words_of(pid)):
                    seen.add(pid)
                    left -= left and self._take(int(self._scene.rng.choice(ports)))

    def _take(self, port: int) -> bool:
        try:
            self._stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:  # the server was faster
            return False
        return True

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@contextmanager
def _second_tuner(scene: Scene) -> Iterator[None]:
    """The same command once more beside it."""
    second = scene.place.start(3)
    yield
    ended = second.finish(90.0)
    if ended.code != OK or "Traceback" in ended.said:
        scene.seen.append(f"the second tuner: exit code {ended.code}: {ended.said[-300:]}")


@contextmanager
def _shifted_clock(place: Place) -> Iterator[None]:
    """The command sees a clock that can be shifted."""
    place.folder.mkdir(parents=True, exist_ok=True)
    library, source = place.folder / "clock_jump.so", Path(__file__).with_name("clock_jump.c")
    shift = f'-DSHIFT="{place.folder / "shift"}"'
    subprocess.run(("cc", "-shared", "-fPIC", "-O1", shift, "-o", library, source), check=True)
    place.variables["LD_PRELOAD"] = str(library)
    yield


@contextmanager
def _clock_jumped(scene: Scene) -> Iterator[None]:
    seconds = scene.rng.choice(_JUMPS)
    (scene.place.folder / "shift").write_text(str(seconds), encoding="ascii")
    yield


AROUND = (
    Fault("ports-taken", "a port of a server is taken before it listens", _ports_taken, ()),
    Fault(
        "two-tuners",
        "the same command twice at once",
        _second_tuner,
        (STARTED, TRIAL),
        limit=90.0,
    ),
    Fault(
        "clock-jumps",
        "the time of day jumps by minutes up to years, either way",
        _clock_jumped,
        (STARTED, TRIAL),
        setting=_shifted_clock,
        needs=frozenset({"cc"}),
    ),
)
