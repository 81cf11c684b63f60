"""The deployments of a comparison, each with the evaluation that counts for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.records.comparison import UNBATCHED, Comparison, Deployed
from tuner.records.results import Evaluation

_OLD_TITLES = {
    "FastAPI as in the document": "FastAPI (naive)",
    "Triton as found": "Triton (baseline)",
    "Triton without batching": "Triton tuned, without batching",
}
"""What deployments were called before, and what they are called now."""


def title_of(deployed: Deployed) -> str:
    return _OLD_TITLES.get(deployed.title, deployed.title)


@dataclass(frozen=True)
class Contender:
    """A deployment with its evaluation: the last confirmed one, or the only one there is."""

    deployed: Deployed
    evaluation: Evaluation

    @property
    def name(self) -> str:
        return self.deployed.name

    @property
    def title(self) -> str:
        return title_of(self.deployed)

    @property
    def safe_rate(self) -> float | None:
        """The recommended rate; None where no rate meets the SLA."""
        return self.evaluation.recommended or self.evaluation.capacity

    @property
    def is_batched_triton(self) -> bool:
        """Whether it is Triton alone, and not the one that only shows what batching does."""
        return self.deployed.kind == "triton" and self.name != UNBATCHED


def contenders(comparison: Comparison, evaluations: list[Evaluation]) -> list[Contender]:
    """In the comparison's order; those that were never evaluated are left out."""
    last = {evaluation.trial: evaluation for evaluation in evaluations}
    return [Contender(d, last[d.trial]) for d in comparison.deployments if d.trial in last]


def by_role(contenders: list[Contender]) -> Mapping[str, Contender]:
    """By name; ``triton-tuned`` also where the best configuration found is the model's own."""
    tuned = [each for each in contenders if each.is_batched_triton and each.deployed.tuned]
    own = {"triton-tuned": tuned[0]} if tuned else {}
    return own | {each.name: each for each in contenders}
