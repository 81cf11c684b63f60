"""A service as processes: uvicorn's workers under a supervisor, also if there is one worker only.

On SIGHUP it brings a replacement into service, with the model of that moment, before the old worker
ends.
"""

import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.errors import LauncherUnavailable
from tuner.scratch import scratch_folder
from tuner.servers.program import end_with_parent
from tuner.serving.constants import WORKERS
from tuner.serving.exposure import require_keys, trusted_networks
from tuner.serving.listener import bind, url_of
from tuner.serving.settings import FAILURE, ServiceSettings

if TYPE_CHECKING:
    from uvicorn import Config

PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "limits")
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_SUPERVISOR = "TUNER_SUPERVISOR"


def missing_packages() -> list[str]:
    """Those of the extra ``serve`` that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def require_packages() -> None:
    """LauncherUnavailable if a package of the extra ``serve`` is missing."""
    if missing := missing_packages():
        raise LauncherUnavailable(
            f"{', '.join(missing)} is not installed; pip install 'triton-tuner[serve]'"
        )


def end_with_supervisor() -> None:
    """For a worker: it is gone once its supervisor is, even if that was killed."""
    supervisor = os.environ.get(_SUPERVISOR)
    if supervisor is None:
        return
    end_with_parent(signal.SIGKILL)
    if os.getppid() != int(supervisor):  # it ended before the kernel was asked
        os._exit(1)


def supervise(app: str, settings: ServiceSettings, about: str, keys_remedy: str | None) -> int:
    """Serve until SIGINT or SIGTERM; the exit code. ``app`` is ``module:function`` of what makes
    the app in each worker out of the settings in the environment. ``about`` says what is served.
    ``keys_remedy`` says how the service gets API keys; it is None if it has some.

    UsageError if the address is not available, or needs keys that are missing.
    """
    require_packages()
    from tuner.serving.draining import DRAINING

    config = _config(app, settings)
    with bind(settings.host, settings.port) as listener, scratch_folder("service") as folder:
        if keys_remedy is not None and not settings.allow_unauthenticated:
            require_keys(listener.getsockname()[0], keys_remedy)
        marker = Path(folder) / "draining"
        os.environ[DRAINING] = str(marker)
        os.environ[FAILURE] = str(Path(folder) / "failure")
        os.environ[_METRICS] = str(Path(folder))
        os.environ[_SUPERVISOR] = str(os.getpid())
        settings.to_environment()
        from tuner.serving.supervisor import Supervisor  # its metrics read the environment

        workers = f"{settings.workers} worker{'s' if settings.workers > 1 else ''}"
        print(f"listening on {url_of(listener)} ({about}, {workers})", flush=True)
        return Supervisor(config, listener, marker, settings.drain_delay).run()


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
