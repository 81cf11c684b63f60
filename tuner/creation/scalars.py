"""Tensors of a single value an item, for which Triton has no dims."""

from dataclasses import replace

from tuner.creation.draft import Draft, Run
from tuner.model.signature import Arrays, TensorSpec


def with_dims(draft: Draft) -> Draft:
    """Such tensors are ``[1]`` to clients; Triton takes that dimension away before the model, and
    adds it behind. Without a batch it cannot, and the model stays as it is.
    """
    signature = draft.signature
    scalars = {s.name for s in (*signature.inputs, *signature.outputs) if not s.dims}
    if not scalars or not signature.batched:
        return draft
    inputs, outputs = map(_specs, (signature.inputs, signature.outputs))
    return replace(
        draft,
        signature=replace(signature, inputs=inputs, outputs=outputs),
        run=draft.run and _reshaped(draft.run, scalars),
        scalars=frozenset(scalars),
    )


def _specs(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, dims=spec.dims or (1,)) for spec in specs)


def _reshaped(run: Run, scalars: set[str]) -> Run:
    def reshaped(inputs: Arrays) -> Arrays:
        taken = {name: a[:, 0] if name in scalars else a for name, a in inputs.items()}
        given = run(taken)
        return {name: a[:, None] if name in scalars else a for name, a in given.items()}

    return reshaped
