"""The numbers of this package: each with its unit, and why it is what it is."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LaunchSettings:
    """Starting, watching and ending servers."""

    poll: float = 0.05
    """Seconds between two looks at a server that starts: few beside the 0.5 s that it takes."""
    port_attempts: int = 3
    """A free port may be taken by another process before the server listens on it; twice in a row
    means that something else is wrong."""
    stop: float = 10.0
    """Seconds to wait for killed children; only one that hangs in the kernel takes as long."""
    stop_poll: float = 0.01
    """Seconds between two looks at killed children, which are gone within milliseconds."""
    metrics_interval: int = 500
    """Milliseconds between Triton's readings of its GPUs: its 2000 are coarse for a probe."""
    exit_timeout: int = 5
    """Seconds that Triton in a container may take to end; only what is not killed needs them."""
    log_tail: int = 12
    """Lines of a log that an error shows: Triton gives its reason within the last few."""
    error_lines: int = 5
    """Lines of errors from a log that follow a refusal: the first causes, without what ensues."""


@dataclass(frozen=True)
class HttpSettings:
    """Requests to a server's control API, and to services that start."""

    live: float = 1.0
    """Seconds for one look at whether a server lives; loopback answers in milliseconds."""
    attached: float = 5.0
    """Seconds for the same across a network: one lost packet must not end a run."""
    service_ready: float = 2.0
    """Seconds for a service to say that it is ready; its event loop may be busy with loading."""
    metadata: float = 10.0
    """Seconds for what a server answers from memory, also while it works at full load."""
    metrics: float = 5.0
    """Seconds for the Prometheus text, without which a probe goes on."""
    dying: float = 1.0
    """Seconds until the exit of a server is seen that has closed its sockets already."""
    dying_poll: float = 0.1
    """Seconds between two looks at whether it has exited."""
    shown: int = 300
    """Characters of a reply in a message: a whole page of HTML would hide what it says."""
    inference_shown: int = 500
    """Characters of a failed inference in a message: a Python traceback is longer than a reply."""


@dataclass(frozen=True)
class DockerSettings:
    """What every container gets, and how long the Docker engine may take."""

    probe: int = 5
    """Seconds to find out whether an engine answers at all; asked before anything is started."""
    call: int = 60
    """Seconds for one call: to copy a repository of gigabytes takes longer than any other."""
    log_size: str = "32m"
    """Size at which the engine begins a new log: a verbose server must not fill the disk."""
    log_files: str = "2"
    """Logs kept: the last one may have just begun when a server dies."""


@dataclass(frozen=True)
class WatchSettings:
    """Readings of GPUs and processes while a probe runs."""

    gpu_period: float = 0.1
    """Seconds between two readings of the GPUs, which NVML itself averages over up to a second."""
    gpu_users_every: int = 10
    """Readings between two looks at who computes on the GPUs: strangers stay for seconds."""
    gpu_share: float = math.inf
    """NVML answers within a millisecond: the period alone limits readings."""
    host_period: float = 0.5
    """Seconds between two readings of the processes: memory that peaks stays for longer."""
    host_share: float = 0.01
    """Share of a core that readings of processes may take: what is measured shares the cores."""
    patience: float = 1.0
    """Seconds to wait for the last reading; a driver that hangs must not hold up a probe."""
    hidden_memory: int = 2**30
    """Bytes in use on a GPU without a process in sight from which on someone must be hidden;
    drivers and displays take less."""


LAUNCH = LaunchSettings()
HTTP = HttpSettings()
DOCKER = DockerSettings()
WATCH = WatchSettings()
