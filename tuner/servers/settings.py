"""The numbers of this package: each with its unit, and why it is what it is."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LaunchSettings:
    """Starting and ending servers."""

    poll: float = 0.05  # s between looks at a server that starts; few beside the 0.5 s it takes
    port_attempts: int = 3  # a free port may be taken before the server listens, hardly twice
    listen: float = 1.0  # s from the first answer until Triton has tried its last port
    stop: float = 10.0  # s for killed children to go; only what hangs in the kernel takes as long
    stop_poll: float = 0.01  # s between looks at killed children, which go within milliseconds
    metrics_interval: int = 500  # ms between Triton's readings; its own 2000 are coarse for a probe
    exit_timeout: int = 5  # s for Triton in a container to end, where it is not killed at once
    log_tail: int = 12  # lines of a log in an error: Triton's reason is within its last few
    log_read: int = 1 << 20  # bytes of a log's end that are looked at; a verbose one has gigabytes
    error_lines: int = 5  # errors of the log that follow a refusal: its causes, not what ensues


@dataclass(frozen=True)
class HttpSettings:
    """Requests to a server's control API, and to services that start."""

    live: float = 1.0  # s for a look at whether a server lives; loopback takes milliseconds
    attached: float = 5.0  # s for the same through a network: a lost packet must not end a run
    service_ready: float = 2.0  # s for a service whose event loop may be busy with loading
    metadata: float = 10.0  # s for what a server has in memory, also while it is at full load
    largest_reply: int = 16 << 20  # bytes; statistics of a model with many versions have 100 kB
    largest_inference: int = 1 << 30  # bytes of an answer to one request, videos included
    metrics: float = 5.0  # s for Prometheus' text, without which a probe goes on
    dying: float = 1.0  # s until a server that has closed its sockets is seen to have ended
    dying_poll: float = 0.1  # s between looks at that
    log_lag: float = 1.0  # s until an engine's log has what a server wrote before it answered
    log_poll: float = 0.05  # s between looks at that
    shown: int = 300  # characters of a reply in a message; a page of HTML would hide the rest
    inference_shown: int = 500  # the same of a failed inference, whose Python traceback is longer
    refusal_shown: int = 5000  # the same of why a model is refused, in which a cause is looked for


@dataclass(frozen=True)
class DockerSettings:
    """What the engine is asked for."""

    probe: int = 5  # s to find out whether an engine answers at all
    call: int = 60  # s for one call; copying a repository of gigabytes takes longest
    log_size: str = "32m"  # of each log file: a verbose server must not fill the disk
    memory_share: float = 0.9  # of the machine's memory for a server: the rest goes on working
    log_files: str = "2"  # kept: the newest may have just begun when a server dies


@dataclass(frozen=True)
class WatchSettings:
    """Readings of GPUs and processes while a probe runs."""

    gpu_period: float = 0.1  # s between readings; a probe of a second has ten
    gpu_share: float = math.inf  # NVML takes a millisecond: only the period limits readings
    gpu_users_every: int = 10  # readings for one look at who is on the GPUs: they stay for seconds
    host_period: float = 0.5  # s between readings of processes, whose memory changes slowly
    host_share: float = 0.01  # of a core for them: the server under test needs the cores
    patience: float = 1.0  # s for the last reading: a driver that hangs must not hold up a probe
    hidden_memory: int = 2**30  # bytes in use with no process in sight that tell of a hidden one


LAUNCH = LaunchSettings()
HTTP = HttpSettings()
DOCKER = DockerSettings()
WATCH = WatchSettings()
