"""The evaluator that an experiment asks for."""

from tuner.commands.plan import Plan
from tuner.deadline import Deadline
from tuner.deployments.repository import RepositoryDeployment
from tuner.deployments.subjects import TritonCandidates, TritonServers
from tuner.deployments.triton import TritonDeployment
from tuner.experiment.model import Experiment
from tuner.load.generator import LoadEngine
from tuner.measurement.evaluate import Evaluator
from tuner.measurement.session import Conditions, Progress
from tuner.records.run import Run
from tuner.servers.base import Launcher
from tuner.servers.gpu import Gpus
from tuner.servers.protection import Opened


def make_evaluator(
    plan: Plan,
    launcher: Launcher,
    generator: LoadEngine,
    gpus: Gpus,
    run: Run,
    progress: Progress,
    deadline: Deadline | None = None,
) -> Evaluator:
    experiment = plan.experiment
    return Evaluator(
        TritonCandidates(make_deployment(plan, launcher, gpus, deadline)),
        generator,
        conditions_of(experiment),
        run,
        experiment.seed,
        progress,
        experiment.minimize,
        keeps_servers=experiment.relaunch == "auto",
        deadline=deadline,
    )


def conditions_of(experiment: Experiment) -> Conditions:
    return Conditions(
        experiment.sla,
        experiment.load,
        experiment.constraints,
        experiment.confirm,
        experiment.probe_seconds,
    )


def make_deployment(
    plan: Plan, launcher: Launcher, gpus: Gpus, deadline: Deadline | None = None
) -> TritonServers:
    """Servers of the plan's model, or of all its models."""
    experiment = plan.experiment
    opens: Opened = "model" if experiment.load_engine == "perf_analyzer" else "inference"
    if plan.repository is None:
        return TritonDeployment(
            launcher,
            experiment.model,
            plan.config,
            experiment.protocol,
            plan.inputs,
            experiment.startup_timeout,
            gpus,
            experiment.shared_memory == "system",
            deadline,
            experiment.model_version,
            experiment.load_models,
            None if experiment.input_data else experiment.cache_hits,
            opens,
        )
    return RepositoryDeployment(
        launcher,
        plan.repository,
        experiment.protocol,
        plan.contents,
        plan.mix,
        experiment.startup_timeout,
        gpus,
        experiment.shared_memory == "system",
        deadline,
        experiment.load_models,
        opens,
        experiment.seed,
        None if experiment.input_data else experiment.cache_hits,
    )
