"""The evaluator that an experiment asks for."""

from functools import partial

from tuner.commands.plan import Plan
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.load.generator import LoadEngine
from tuner.measure.evaluate import Evaluator, Progress
from tuner.measure.evaluate_cost import CostEvaluator
from tuner.records.run import Run
from tuner.servers.base import Launcher
from tuner.servers.gpu import Gpus


def make_evaluator(
    plan: Plan, launcher: Launcher, generator: LoadEngine, gpus: Gpus, run: Run, progress: Progress
) -> Evaluator:
    experiment, objective = plan.experiment, plan.experiment.minimize
    deployment = TritonDeployment(
        launcher,
        experiment.model,
        plan.config,
        experiment.protocol,
        Inputs(experiment.seed, dict(experiment.shapes), experiment.input_data, experiment.batch),
        experiment.startup_timeout,
        gpus,
        experiment.shared_memory == "system",
    )
    make = Evaluator if objective is None else partial(CostEvaluator, objective)
    return make(
        deployment,
        generator,
        experiment.sla,
        experiment.load,
        run,
        experiment.seed,
        progress,
        experiment.confirm,
        experiment.constraints,
        experiment.relaunch,
    )
