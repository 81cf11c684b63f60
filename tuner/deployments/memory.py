"""Shared memory between the load processes and a server, for as long as a deployment lasts."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from tuner.deployments.first_answers import Answers, Output
from tuner.errors import LauncherUnavailable, ServerFailed, UsageError
from tuner.load.shared import SharedTensors
from tuner.load.target import Placement, Tensor
from tuner.model.signature import Signature
from tuner.servers.base import Launcher, Server
from tuner.servers.control import Control

_ROOM = 2
"""Times the bytes seen, for outputs whose dimensions the model leaves open."""
_IN_USE_SECONDS = 10.0
"""Seconds for a server to release a region that its last requests still use."""


def check_shares_memory(launcher: Launcher) -> None:
    """UsageError if the launcher's servers do not see this machine's /dev/shm."""
    if not launcher.shares_memory():
        raise UsageError(
            f"--shared-memory system cannot be used with the launcher {launcher.name} here: its "
            "servers do not see /dev/shm of this machine. Use --launcher local, an attached "
            "server with a loopback address, or --shared-memory none"
        )


@contextmanager
def shared_tensors(
    control: Control,
    server: Server,
    pool: list[list[Tensor]],
    outputs: list[Mapping[str, int | None]],
) -> Iterator[list[Placement]]:
    """Put the pool into shared memory and register it with the server; undone at the end.

    LauncherUnavailable if a server that runs well cannot open it.
    """
    with SharedTensors(pool, outputs) as shared, ExitStack() as registered:
        for region in shared.regions:
            try:
                control.register_memory(region.name, region.key, region.size)
            except ServerFailed as error:
                if server.exit_reason() is not None:
                    raise
                raise LauncherUnavailable(
                    f"the server cannot use shared memory of this machine: {error}. Triton 2.69 "
                    "and later need the flag --allow-client-shm=true; if it runs in a container or "
                    "as another user, use --shared-memory none"
                ) from error
            registered.callback(_unregister, control, server, region.name)
        yield shared.placements


def _unregister(control: Control, server: Server, name: str) -> None:
    """Triton refuses while a request uses the region, such as one that the client gave up.

    A server of our own (its processes are known) is about to end, and its mappings with it.
    """
    deadline = time.monotonic() + (0.0 if server.pids() else _IN_USE_SECONDS)
    while server.exit_reason() is None:
        try:
            control.unregister_memory(name)
        except ServerFailed:
            if time.monotonic() >= deadline:
                return
            time.sleep(0.1)
        else:
            return


def output_bytes(signature: Signature, answers: Answers) -> dict[int, dict[str, int | None]]:
    """Bytes to reserve for each output, by client batch size, from one answer of each.

    Outputs with open dimensions get room; None, to be sent inline, where the size of an element
    depends on its content (BYTES) or was not told.
    """
    room = {spec.name: _ROOM for spec in signature.outputs if any(size < 0 for size in spec.dims)}
    return {
        batch: {output.name: _reserved(output, room) for output in outputs}
        for batch, outputs in answers.outputs.items()
    }


def _reserved(output: Output, room: Mapping[str, int]) -> int | None:
    if output.datatype == "BYTES" or not output.size:
        return None
    return output.size * room.get(output.name, 1)
