"""Raw samples of one probe: what load generators return and what statistics are made of."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class _FailsOnce:
    """A file to write to that is silent after its first error: a ZipFile that failed writes again
    when it is collected, and Python would print that.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._has_failed = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._file, name)

        def call(*arguments: Any) -> Any:
            if self._has_failed:
                return 0
            try:
                return method(*arguments)
            except OSError:
                self._has_failed = True
                raise

        return call


@dataclass(frozen=True)
class Samples:
    """One row per request, ordered by intended send time; times in seconds of one monotonic clock.

    ``intended`` is the planned send, ``sent`` the actual one, ``done`` the end of the reply. A
    request that was never sent or never answered has NaN there. ``ok`` says that the server
    answered without an error. The arrays have the same length n >= 0. Of requests to several
    models, ``kind`` is the place of each one's model in ``models``.
    """

    intended: Floats
    sent: Floats
    done: Floats
    ok: Bools
    kind: Ints | None = None
    models: tuple[str, ...] = ()

    @classmethod
    def empty(cls) -> "Samples":
        none = np.empty(0)
        return cls(none, none, none, np.empty(0, dtype=bool))

    @classmethod
    def merge(cls, parts: "list[Samples]") -> "Samples":
        """The union of several workers' samples, ordered by intended send time."""
        intended = np.concatenate([p.intended for p in parts])
        order = np.argsort(intended, kind="stable")
        kinds = [p.kind for p in parts if p.kind is not None]
        return cls(
            intended[order],
            np.concatenate([p.sent for p in parts])[order],
            np.concatenate([p.done for p in parts])[order],
            np.concatenate([p.ok for p in parts])[order],
            np.concatenate(kinds)[order] if len(kinds) == len(parts) else None,
            parts[0].models if parts else (),
        )

    def of(self, model: str) -> "Samples":
        """The requests to one of several models."""
        if self.kind is None or model not in self.models:
            raise ValueError(f"the samples are not of several models, {model!r} among them")
        return self._by_model[model]

    @cached_property
    def _by_model(self) -> "dict[str, Samples]":
        assert self.kind is not None
        return {model: self.take(self.kind == i) for i, model in enumerate(self.models)}

    def __len__(self) -> int:
        return len(self.intended)

    @cached_property
    def latency(self) -> Floats:
        """Seconds from the intended send to the reply; +inf where there was no good reply.

        A failed request is infinitely late, so it violates every bound and no quantile hides it.
        """
        return np.where(self.ok, self.done - self.intended, np.inf)

    @cached_property
    def lateness(self) -> Floats:
        """Seconds by which the client sent after the plan, of the requests that were sent."""
        late = self.sent - self.intended
        return np.asarray(late[~np.isnan(late)])

    @property
    def mean(self) -> float | None:
        """Mean latency of the good replies, in seconds; None if there are none."""
        return float(np.mean(self.latency[self.ok])) if self.ok.any() else None

    @property
    def client_wait(self) -> float | None:
        """The part of ``mean`` that passed before the requests were sent."""
        return float(np.mean((self.sent - self.intended)[self.ok])) if self.ok.any() else None

    @property
    def errors(self) -> int:
        return int(len(self) - np.count_nonzero(self.ok))

    @property
    def span(self) -> float:
        """Seconds from the first to the last intended send."""
        return float(self.intended[-1] - self.intended[0]) if len(self) > 1 else 0.0

    @property
    def throughput(self) -> float | None:
        """Good replies per second, from the first intended send to the last reply; None if none."""
        if not self.ok.any():
            return None
        elapsed = float(np.max(self.done[self.ok]) - self.intended[0])
        return float(np.count_nonzero(self.ok)) / elapsed if elapsed > 0 else None

    def between(self, start: float, end: float) -> "Samples":
        """The requests that were planned in [start, end)."""
        return self.take((self.intended >= start) & (self.intended < end))

    def take(self, keep: Bools) -> "Samples":
        """The requests where ``keep``, of shape (n,), is True."""
        return Samples(
            self.intended[keep],
            self.sent[keep],
            self.done[keep],
            self.ok[keep],
            None if self.kind is None else self.kind[keep],
            self.models,
        )

    def save(self, path: Path) -> None:
        """Write the arrays as compressed npz; OSError if there is no room."""
        with path.open("wb") as file:
            once = _FailsOnce(file)
            kinds: dict[str, Any] = {}
            if self.kind is not None:
                kinds = {"kind": self.kind, "models": list(self.models)}
            np.savez_compressed(
                once, intended=self.intended, sent=self.sent, done=self.done, ok=self.ok, **kinds
            )

    @classmethod
    def load(cls, path: Path) -> "Samples":
        with path.open("rb") as file, np.load(file) as data:
            samples = cls(data["intended"], data["sent"], data["done"], data["ok"])
            if "kind" not in data:
                return samples
            return replace(samples, kind=data["kind"], models=tuple(map(str, data["models"])))
