"""The tensors that the steps of a pipeline get from each other, for requests to each step alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.client.errors import ClientError
from tuner.client.sync import TritonClient
from tuner.deployments.base import FIRST_ANSWER_SECONDS
from tuner.errors import ServerFailed
from tuner.load.target import Tensor
from tuner.model.pipeline import Pipeline
from tuner.model.signature import Signature
from tuner.servers.base import Endpoints

_TRACED = 32
"""Requests that are followed through all steps: each costs a call of every step."""
Pool = list[list[Tensor]]


def trace_steps(endpoints: Endpoints, pipeline: Pipeline, pool: Pool) -> dict[str, Pool]:
    """What each composing model gets of the first requests of the pool, by its name: each step is
    called with what those before it answered. ServerFailed if a step fails.
    """
    protection, headers = endpoints.protection, dict(endpoints.security.headers)
    headers |= dict(protection.http().headers) if protection is not None else {}
    clients: dict[str, TritonClient] = {}
    found: dict[str, Pool] = {}
    try:
        for model in pipeline.models:
            clients[model] = TritonClient(
                endpoints.root("http"),
                model,
                protocol="http",
                timeout=FIRST_ANSWER_SECONDS,
                headers=headers,
            )
        for inputs in pool[:_TRACED]:
            known = {tensor.name: tensor.array for tensor in inputs}
            for step in pipeline.steps:
                own = {name: known[tensor] for name, tensor in step.reads if tensor in known}
                signature = clients[step.model].signature()
                found.setdefault(step.model, []).append(_tensors(own, signature))
                answer = clients[step.model].infer(own)
                known |= {tensor: answer[name] for name, tensor in step.makes if name in answer}
    except ClientError as error:
        raise ServerFailed(f"a step of {pipeline.name} fails by itself: {error}") from error
    finally:
        for client in clients.values():
            client.close()
    return found


def _tensors(arrays: Mapping[str, Any], signature: Signature) -> list[Tensor]:
    specs: Sequence[Any] = signature.inputs
    return [
        Tensor(spec.name, spec.datatype, np.ascontiguousarray(arrays[spec.name]))
        for spec in specs
        if spec.name in arrays
    ]
