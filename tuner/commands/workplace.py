"""What a run works with: servers' launcher, load processes and GPUs; and what its record tells of
them.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from tuner.commands.preparation import Preparation
from tuner.cores import Cores
from tuner.deployments.memory import check_shares_memory
from tuner.experiment.model import Experiment
from tuner.load.generator import LoadEngine, LoadGenerator
from tuner.load.hiccups import HiccupMeter
from tuner.load.perf_analyzer import PerfAnalyzer
from tuner.records.manifest import Environment
from tuner.servers.address import readable_by_others
from tuner.servers.base import Endpoints, Launcher
from tuner.servers.choose import choose, make_launcher
from tuner.servers.container_spec import ContainerSpec
from tuner.servers.gpu import Gpus
from tuner.servers.leftovers import remove_leftovers
from tuner.version import __version__


@contextmanager
def open_resources(
    experiment: Experiment, endpoints: Endpoints | None, preparation: Preparation | None = None
) -> Iterator[tuple[Launcher, LoadEngine, Gpus, str]]:
    """Launcher, load generator, GPUs and the launcher's kind; ``endpoints`` are to attach to,
    and the first load waits for the ``preparation``.
    """
    kind = choose(experiment.launcher, experiment.image, experiment.url)
    remove_leftovers()
    cores = experiment.pin.cores
    container = ContainerSpec(
        image=experiment.image,
        gpus=experiment.gpus,
        shm_size=experiment.shm_size,
        environment=dict(experiment.env),
        server_args=experiment.server_args,
    )
    with (
        HiccupMeter(cores.serving | cores.load if cores else None) as meter,
        make_launcher(kind, container, endpoints, cores) as launcher,
        _load_engine(experiment, cores, preparation, meter) as generator,
        Gpus(launcher.gpus()) as gpus,
    ):
        if experiment.shared_memory == "system":
            check_shares_memory(launcher)
        yield launcher, generator, gpus, kind


def _load_engine(
    experiment: Experiment,
    cores: Cores | None,
    preparation: Preparation | None,
    meter: HiccupMeter,
) -> LoadGenerator | PerfAnalyzer:
    if experiment.load_engine == "perf_analyzer":
        return PerfAnalyzer(experiment.workers, cores, meter)
    prepared = preparation or Preparation(())
    return LoadGenerator(experiment.workers, cores, prepared.wait, meter)


def notes_on(endpoints: Endpoints | None, gpus: Gpus) -> list[str]:
    """What limits the worth of all that is measured here."""
    exposed = readable_by_others(endpoints) if endpoints else None
    return [*([exposed] if exposed else []), *map(str, gpus.notes())]


def described(kind: str, launcher: Launcher, experiment: Experiment) -> str:
    """The server in a few words."""
    return f"{kind}: {launcher.describe().get('server') or experiment.image}"


def relative_path(path: Path) -> Path:
    """Relative where it lies below the working folder, so that records carry to other machines."""
    here, there = Path.cwd(), Path(os.path.abspath(path))
    inside = there.is_relative_to(here) and there != here
    return there.relative_to(here) if inside else there


def run_metadata(
    command: str | None,
    launcher: Launcher,
    gpus: Gpus,
    notes: list[str],
    experiment: Experiment,
) -> dict[str, Any]:
    """What a manifest says besides the plan: command, time, versions and hardware."""
    packages = ("optuna", "tritonclient", "numpy")
    return {
        "id": uuid4().hex,
        "command": command,
        "headers": experiment.security().names,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "environment": Environment.model_validate(
            {
                "tuner": __version__,
                **launcher.describe(),
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in packages},
                "system": platform.platform(),
                "processor": processor(),
                "cores": len(os.sched_getaffinity(0)),
                "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
                **gpus.describe(),
                "notes": tuple(notes),
            }
        ),
    }


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
