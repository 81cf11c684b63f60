"""The server in hand: kept from one candidate to the next where Triton can change it in place."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tuner.deployments.base import Deployments, Running
from tuner.model.space import Candidate


class ServerSlot:
    """One server at a time."""

    def __init__(self, deployment: Deployments) -> None:
        self._deployment = deployment
        self._stack = ExitStack()
        self._running: Running | None = None
        self._candidate: Candidate | None = None
        self.is_fresh = True
        """Whether the last server was launched for its candidate, and not changed to it."""

    @contextmanager
    def server(self, candidate: Candidate | None, log: Path, keep: bool) -> Iterator[Running]:
        """A server of the candidate; None is the model as found, which is always launched.

        With ``keep`` it may be the one in hand, changed, and stays in hand afterwards, unless
        something was raised. Raises as ``Deployment.start``.
        """
        try:
            yield self._take(candidate, log, keep)
        except BaseException:
            self.close()
            raise
        if not keep:
            self.close()

    def _take(self, candidate: Candidate | None, log: Path, keep: bool) -> Running:
        before, running = self._candidate, self._running
        self.is_fresh = not (
            keep
            and running is not None
            and before is not None
            and candidate is not None
            and self._deployment.can_change(before, candidate)
        )
        if self.is_fresh:
            self.close()
            running = self._stack.enter_context(self._deployment.start(candidate, log, not keep))
        elif candidate != before:
            assert running is not None
            assert candidate is not None
            running.change(candidate)
        assert running is not None
        self._running, self._candidate = running, candidate
        return running

    def close(self) -> None:
        """Stop the server in hand, if there is one."""
        self._running = self._candidate = None
        self._stack.close()

    def __enter__(self) -> "ServerSlot":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
