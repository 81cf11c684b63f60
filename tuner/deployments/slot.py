"""The current server, reused for the next subject if Triton can change it in place."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tuner.deployments.base import Running
from tuner.deployments.subjects import Deployments, Subject
from tuner.errors import ServerFailed


class ServerSlot:
    """One server at a time, each launched ``as_served`` or, where it makes no difference, faster
    (see ``Deployments.start``).
    """

    def __init__(self, deployments: Deployments, as_served: bool = False) -> None:
        self._deployments = deployments
        self._as_served = as_served
        self._stack = ExitStack()
        self._running: Running | None = None
        self._subject: Subject | None = None
        self.is_fresh = True
        """Whether the last server was launched for its subject, and not changed to it."""

    @contextmanager
    def server(self, subject: Subject, log: Path, keep: bool) -> Iterator[Running]:
        """A server of the subject. With ``keep`` it may be the current one, changed in place, and
        it stays afterwards unless there was an exception. Raises as ``Deployment.start``.
        """
        try:
            yield self._take(subject, log, keep)
        except BaseException:
            self.close()
            raise
        if not keep:
            self.close()

    def _take(self, subject: Subject, log: Path, keep: bool) -> Running:
        before, running = self._subject, self._running
        self.is_fresh = not (
            keep
            and running is not None
            and before is not None
            and self._deployments.can_change(before, subject)
            and _runs(running)
        )
        if self.is_fresh:
            self.close()
            running = self._stack.enter_context(
                self._deployments.start(subject, log, self._as_served)
            )
        elif before is not None and subject.candidate != before.candidate:
            assert running is not None
            running.change(subject.candidate)
        assert running is not None
        self._running, self._subject = running, subject
        return running

    def close(self) -> None:
        """Stop the current server, if there is one."""
        self._running = self._subject = None
        self._stack.close()

    def __enter__(self) -> "ServerSlot":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _runs(running: Running) -> bool:
    """Whether its server has not ended meanwhile: that would tell nothing of the next subject."""
    try:
        running.raise_if_gone()
    except ServerFailed:
        return False
    return True
