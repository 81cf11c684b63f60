"""What can be known to fail before a server is launched, or a run's folder made."""

from tuner.commands.plan import Plan
from tuner.errors import UsageError
from tuner.goals.quantities import QUANTITIES
from tuner.model.config import is_complete
from tuner.model.signature import Signature
from tuner.servers.container_spec import check_gpu_ids
from tuner.servers.gpu import Gpus


def check_plan(plan: Plan) -> None:
    """InputDataError if the requests do not fit the model, StorageError if the storage cannot be
    opened.
    """
    check_gpu_ids(plan.experiment.gpus)
    for name, inputs in plan.contents.items():
        config = plan.config if plan.repository is None else plan.repository.configs[name]
        if is_complete(config) and config.input:
            inputs.pool(Signature.of_config(config))
    if plan.experiment.storage is not None:
        from tuner.optimizer.storage import check_storage  # with all of Optuna

        check_storage(plan.experiment.storage)


def check_gpus(plan: Plan, gpus: Gpus, launcher: str) -> None:
    """UsageError if something is limited or minimized that only a GPU tells, and a ``local`` server
    has none. In a container, or on another machine, the server's own metrics may tell it.
    """
    experiment = plan.experiment
    if gpus.devices or launcher != "local":
        return
    terms = experiment.minimize.terms if experiment.minimize else ()
    asked = {
        **{each.name: f"--constraint {each}" for each in experiment.constraints},
        **{term.name: f"--minimize {term.name}" for term in terms},
    }
    for name, option in asked.items():
        if name in QUANTITIES and QUANTITIES[name].source == "GPU":
            why = "; ".join(map(str, gpus.notes()))
            raise UsageError(
                f"{option} needs an NVIDIA GPU, and this machine shows none"
                + (f" ({why})" if why else "")
                + "; 'tuner doctor' shows what is here"
            )
