"""A plan whose model leaves a part of its configuration to the server, completed by the server."""

from pathlib import Path

from tuner.commands.plan import Plan
from tuner.model.config import complete, is_complete
from tuner.scratch import scratch_folder
from tuner.servers.base import Launcher, ServerSpec
from tuner.servers.control import Control


def completed_plan(plan: Plan, launcher: Launcher) -> Plan:
    """The same plan where the model's configuration says all that a search is about.

    Else a server is launched once and asked for the configuration in force: that one is tuned, and
    exported. Raises as a launch does, and UsageError where it cannot be measured or tuned.
    """
    if is_complete(plan.config):
        return plan
    experiment = plan.experiment
    model, timeout = experiment.model, experiment.startup_timeout
    with scratch_folder("completion") as folder:
        spec = ServerSpec(model.parent, model.name, Path(folder) / "server.log", timeout)
        with (
            launcher.launch(spec) as server,
            Control(server) as control,
            control.loaded(experiment.load_models, timeout),
        ):
            control.load(model.name, None, timeout)
            in_force = control.in_force(model.name, experiment.model_version)
    return plan.with_config(complete(plan.config, in_force))
