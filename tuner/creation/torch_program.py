"""A repository's model out of a program that PyTorch exported, as in files of torch.export.save.

Names, types and open dimensions are those of the program itself.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.export.passes import move_to_device_pass
from torch.utils._pytree import tree_unflatten

from tuner.creation.draft import Draft, Wanted
from tuner.creation.pytorch import draft_of_converted, output_names, quiet, torch_run
from tuner.errors import UsageError
from tuner.text import shortened, shown


def draft_of_program_file(path: Path, wanted: Wanted, scratch: Path) -> Draft:
    """UsageError where PyTorch cannot load it, or it takes something else than tensors."""
    try:
        with quiet():
            # Exported on a GPU, it would take tensors there only.
            program = move_to_device_pass(torch.export.load(path), "cpu")
    except Exception as error:  # zip, JSON and PyTorch's own share no base
        raise UsageError(
            f"{path} is no program that this PyTorch {torch.__version__} loads: "
            f"{shortened(str(error))}; write it again with torch.export.save"
        ) from error
    return draft_of_program(path, program, wanted, scratch)


def draft_of_program(
    source: Path, program: ExportedProgram, wanted: Wanted, scratch: Path
) -> Draft:
    inputs = _inputs(program, source)
    outputs = output_names(_result(program), inputs)
    module, form = program.module(), program.call_spec.in_spec
    assert form is not None

    def call(tensors: list[torch.Tensor]) -> Any:
        positional, named = tree_unflatten(tensors, form)
        return module(*positional, **named)

    def convert(target: Path) -> object:
        return torch.onnx.export(
            program,
            (),
            target,
            dynamo=True,
            external_data=False,  # but where it exceeds the 2 GB that one file can hold
            output_names=outputs,
            verbose=False,
        )

    wanted = replace(wanted, largest=_largest_batch(program, wanted.largest))
    run = torch_run(call, inputs, outputs)
    return draft_of_converted(source, wanted, convert, run, scratch)


def _inputs(program: ExportedProgram, source: Path) -> list[str]:
    names = []
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT:
            continue
        if not isinstance(spec.arg, TensorArgument):
            raise UsageError(
                f"{source}: the argument {shown(spec.arg.name)} is no tensor, and requests hold "
                "nothing else; export a module whose forward takes tensors alone"
            )
        names.append(spec.arg.name)
    return names


def _result(program: ExportedProgram) -> Any:
    """What the program returns, with empty tensors, and None for what is none."""
    specs = [s for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    leaves = [torch.empty(0) if isinstance(s.arg, TensorArgument) else None for s in specs]
    form = program.call_spec.out_spec
    assert form is not None
    return tree_unflatten(leaves, form)


def _largest_batch(program: ExportedProgram, largest: int) -> int:
    """As far as the range goes that a first dimension was exported with, in items."""
    names = program.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in names]
    firsts = [
        shape[0].node.expr for shape in shapes if shape and isinstance(shape[0], torch.SymInt)
    ]
    ranges = [
        program.range_constraints[each] for each in firsts if each in program.range_constraints
    ]
    return min([largest, *(int(min(each.upper, largest)) for each in ranges)])
