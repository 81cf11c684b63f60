"""A plan whose model leaves a part of its configuration to the server, completed by the server."""

from pathlib import Path

from tuner.commands.plan import Plan
from tuner.scratch import scratch_folder
from tuner.servers.base import Launcher, ServerSpec
from tuner.servers.control import Control


def completed_plan(plan: Plan, launcher: Launcher) -> Plan:
    """The same plan where the models' configurations say all that a search is about.

    Else a server is launched once and asked for the configuration in force: that one is tuned, and
    exported. Raises as a launch does, and UsageError where it cannot be measured or tuned.
    """
    if plan.is_complete:
        return plan
    experiment, timeout = plan.experiment, plan.experiment.startup_timeout
    repository = plan.repository
    folder_of_models = experiment.model.parent if repository is None else repository.folder
    loaded = (plan.config.name,) if repository is None else tuple(repository.configs)
    asked = loaded if repository is None else repository.tuned
    with scratch_folder("completion") as folder:
        log = Path(folder) / "server.log"
        spec = ServerSpec(folder_of_models, plan.config.name, log, timeout)
        with (
            launcher.launch(spec) as server,
            Control(server) as control,
            control.loaded(experiment.load_models, timeout),
        ):
            for name in loaded:
                control.load(name, None, timeout)
            version = experiment.model_version if repository is None else ""
            in_force = {name: control.in_force(name, version) for name in asked}
    return plan.completed(in_force)
