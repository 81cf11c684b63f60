"""uvicorn's workers: started, replaced with no request lost, and ended.

Always under uvicorn's supervisor, also one worker alone: on SIGHUP it brings a replacement into
service, with the model of that moment, before it retires the old worker.
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

from tuner.errors import LauncherUnavailable, UsageError
from tuner.scratch import scratch_folder
from tuner.servers.program import end_with_parent
from tuner.serving.constants import WORKERS
from tuner.serving.exposure import require_keys, trusted_networks
from tuner.serving.settings import REPLACEMENT, ServiceSettings

if TYPE_CHECKING:
    from uvicorn import Config

PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "limits")
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_SUPERVISOR = "TUNER_SUPERVISOR"


def missing_packages() -> list[str]:
    """Those of the extra ``serve`` that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def require_packages() -> None:
    """LauncherUnavailable where a package of the extra ``serve`` is missing."""
    if missing := missing_packages():
        raise LauncherUnavailable(
            f"{', '.join(missing)} is not installed; pip install 'triton-tuner[serve]'"
        )


def end_with_supervisor() -> None:
    """For a worker: it is gone once its supervisor is, even where that was killed."""
    supervisor = os.environ.get(_SUPERVISOR)
    if supervisor is None:
        return
    end_with_parent(signal.SIGKILL)
    if os.getppid() != int(supervisor):  # it ended before the kernel was asked
        os._exit(1)


def supervise(app: str, settings: ServiceSettings, keys_remedy: str | None) -> None:
    """Serve until SIGINT or SIGTERM. ``app`` is ``module:function`` of what makes the app in each
    worker out of the settings in the environment. ``keys_remedy`` says how the service gets API
    keys; it is None where it has some.

    UsageError where the address cannot be had, or may not be had without keys; ends the process
    with uvicorn's own exit code where a worker cannot start: it has said why.
    """
    require_packages()
    config = _config(app, settings)
    with _bind(config) as listener, scratch_folder("service") as folder:
        if keys_remedy is not None and not settings.allow_unauthenticated:
            require_keys(listener.getsockname()[0], keys_remedy)
        os.environ[_METRICS] = str(Path(folder))
        os.environ[_SUPERVISOR] = str(os.getpid())
        settings.to_environment()
        code = _run(config, listener)
        if code:
            sys.exit(code)


def _config(app: str, settings: ServiceSettings) -> "Config":
    from uvicorn import Config

    from tuner.serving.draining import DrainingProtocol

    return Config(
        app,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=DrainingProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=trusted_networks(settings.trusted_proxies),
        timeout_keep_alive=WORKERS.keep_alive,
        timeout_graceful_shutdown=max(1, round(settings.graceful)),
        timeout_worker_healthcheck=max(1, round(settings.startup)),
    )


def _run(config: "Config", listener: socket) -> int:
    """0, or uvicorn's exit code where a worker could not start."""
    from uvicorn.config import STARTUP_FAILURE

    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"listening on http://{shown}:{port}", flush=True)
    supervisor = _supervisor()(config, [listener])
    supervisor.run()
    failed = any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes)
    return STARTUP_FAILURE if failed else 0


def _bind(config: "Config") -> socket:
    """Bound, and not listening yet: the workers do."""
    try:
        return config.bind_socket()
    except SystemExit as error:  # uvicorn has logged the cause, and would end the process
        raise UsageError(
            f"cannot listen on {config.host}:{config.port}; is the address already in use?"
        ) from error


def _supervisor() -> Any:
    from uvicorn.supervisors import Multiprocess

    from tuner.serving.metrics import forget_worker

    class Supervisor(Multiprocess):
        """Workers after the first ones load their model before they accept connections."""

        def init_processes(self) -> None:
            super().init_processes()
            self._leave_pipes_to_workers()
            os.environ[REPLACEMENT] = "1"

        def keep_subprocess_alive(self) -> None:
            before = list(self.processes)
            super().keep_subprocess_alive()
            self._leave_pipes_to_workers()
            self._forget(before)

        def restart_all(self) -> None:
            before = list(self.processes)
            super().restart_all()
            self._leave_pipes_to_workers()
            self._forget(before)

        def _leave_pipes_to_workers(self) -> None:
            """Else a worker that ends after it was asked whether it is alive, and before it has
            answered, is waited for as long as one may take to start.
            """
            for worker in self.processes:
                worker.child_conn.close()

        def _forget(self, before: list[Any]) -> None:
            for worker in before:
                if worker not in self.processes and worker.pid is not None:
                    forget_worker(worker.pid)

    return Supervisor
