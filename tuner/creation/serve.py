"""A new model served once, and its answers held against those of its own runtime."""

from pathlib import Path
from typing import Any

import numpy as np

from tuner.creation.batches import is_close
from tuner.creation.draft import Draft
from tuner.errors import ServerFailed
from tuner.load.target import Tensor
from tuner.servers.base import Launcher, ServerSpec
from tuner.servers.control import Control


def differences(
    draft: Draft, repository: Path, samples: list[list[Tensor]], launcher: Launcher, log: Path
) -> list[str]:
    """What the server answers otherwise than the runtime, in words; ServerFailed where it does not
    load the model, or answers nothing.
    """
    from tritonclient.http import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    name, found = draft.signature.model, []
    spec = ServerSpec(repository, name, log)
    with launcher.launch(spec) as server, Control(server) as control:
        control.load(name, None, spec.startup_timeout)
        client = InferenceServerClient(server.endpoints.http)
        try:
            for number, tensors in enumerate(samples):
                inputs = []
                for tensor in tensors:
                    made = InferInput(tensor.name, list(tensor.array.shape), tensor.datatype)
                    made.set_data_from_numpy(tensor.array)
                    inputs.append(made)
                try:
                    answer = client.infer(name, inputs)
                except InferenceServerException as error:
                    raise ServerFailed(f"{name} does not answer: {error}") from error
                found += _compared(draft, tensors, answer, number)
        finally:
            client.close()
    return found


def _compared(draft: Draft, tensors: list[Tensor], answer: Any, number: int) -> list[str]:
    if draft.run is None:
        return []
    found = []
    for name, value in draft.run({t.name: t.array for t in tensors}).items():
        served = answer.as_numpy(name)
        if served is None:
            found.append(f"sample {number}: the server gives no output {name}")
        elif not is_close(served, value):
            found.append(f"sample {number}: {name} differs{_by_how_much(served, value)}")
    return found


def _by_how_much(served: Any, value: Any) -> str:
    one, other = np.asarray(served), np.asarray(value)
    if one.shape != other.shape:
        return f": shape {one.shape}, and {other.shape} in the runtime"
    if one.dtype.kind in "OSU":
        return ""
    return f" by up to {float(np.max(np.abs(one.astype(float) - other.astype(float)))):.3g}"
