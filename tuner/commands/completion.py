"""A plan whose model leaves a part of its configuration to the server, completed by the server."""

from pathlib import Path

from tuner.commands.plan import DISCOVER, Plan
from tuner.deployments.first_answers import Requests, ask
from tuner.errors import ServerFailed, UsageError
from tuner.model.repository import models_in
from tuner.scratch import scratch_folder
from tuner.servers.base import Launcher, ServerSpec
from tuner.servers.control import Control


def completed_plan(plan: Plan, launcher: Launcher) -> Plan:
    """The same plan where the models' configurations say all that a search is about, and which
    models another calls is known or not asked for.

    Else a server is launched once and asked for the configuration in force: that one is tuned, and
    exported. Raises as a launch does, and UsageError where it cannot be measured or tuned.
    """
    if plan.experiment.bls_composing_models == (DISCOVER,):
        called = _called_models(plan, launcher)
        experiment = plan.experiment.model_copy(update={"bls_composing_models": called})
        plan = Plan.of(experiment, plan.tunes)
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


def _called_models(plan: Plan, launcher: Launcher) -> tuple[str, ...]:
    """The models of the repository that compute while one request to this model is answered: those
    that it calls. UsageError if there are none.
    """
    experiment, name = plan.experiment, plan.config.name
    folder, timeout = experiment.model.parent, experiment.startup_timeout
    others = [model for model in models_in(folder) if model != name]
    with scratch_folder("completion") as log_folder:
        log = Path(log_folder) / "server.log"
        spec = ServerSpec(folder, name, log, timeout)
        with launcher.launch(spec) as server, Control(server) as control:
            loaded = [model for model in others if _loads(control, model, timeout)]
            control.load(name, None, timeout)
            signature = control.signature(name)
            requests = Requests.of(signature, plan.inputs.pool(signature))
            before = {model: _computed(control, model) for model in loaded}
            ask(control, name, "", requests)
            called = tuple(m for m in loaded if _computed(control, m) > before[m])
    steps = () if plan.repository is None else tuple(plan.repository.configs)
    called = tuple(model for model in called if model not in steps)
    if not called and not steps:
        raise UsageError(
            f"one request to {name} made no other model of {folder} compute; name those that it "
            "calls, as in --bls-composing-models NAME,NAME"
        )
    return called


def _loads(control: Control, model: str, timeout: float) -> bool:
    """A model of which files are missing is not one that works now."""
    try:
        control.load(model, None, timeout)
    except ServerFailed:
        return False
    return True


def _computed(control: Control, model: str) -> int:
    return int(control.statistics(model).get("inference_count", 0))
