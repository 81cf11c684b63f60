"""A model repository out of a model: written, served once, and checked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.commands.options import InitOptions
from tuner.creation.draft import Wanted
from tuner.creation.serve import differences
from tuner.creation.sources import draft_of
from tuner.errors import ServerFailed
from tuner.model.config import check_config, check_name, parse_config
from tuner.model.signature import TensorSpec
from tuner.scratch import scratch_folder
from tuner.servers.choose import choose, make_launcher
from tuner.servers.container_spec import ContainerSpec


@dataclass(frozen=True)
class Created:
    """The model's ``folder``; ``served`` says by what it was, None if it was not."""

    folder: Path
    notes: tuple[str, ...]
    served: str | None
    command: str


def create(source: str, options: InitOptions) -> Created:
    """UsageError where the source does not tell enough, with what to add; ServerFailed where the
    server does not take the model, or answers otherwise than its own runtime. Nothing is written
    then.
    """
    path, _, function = source.partition(":")
    file = Path(path)
    name = options.name or function or (file.name if file.is_dir() else file.stem)
    check_name(name)
    shapes = dict(options.shapes)
    target = options.repository / name
    served = None
    with scratch_folder("init") as scratch:
        inputs = tuple(TensorSpec(*each) for each in options.inputs)
        wanted = Wanted(name, inputs, shapes, options.max_batch_size)
        draft = draft_of(Path(path), function, wanted, Path(scratch))
        check_config(parse_config(draft.config(), "the new config.pbtxt"), name)
        samples = draft.samples(shapes, np.random.default_rng(0))
        staged = Path(scratch) / "models"
        draft.write(staged / name, samples)
        if options.serve:
            kind = choose(options.launcher, options.image, None)
            container = ContainerSpec(image=options.image)
            with make_launcher(kind, container, None, None) as launcher:
                found = differences(draft, staged, samples, launcher, Path(scratch) / "server.log")
                served = launcher.describe().get("server") or options.image
            if found:
                listed = "; ".join(found)
                raise ServerFailed(f"the server answers otherwise than the runtime: {listed}")
        draft.write(target, samples)
    command = f"tuner search {target} --sla-p99 DURATION --input-data {target / 'inputs.json'}"
    return Created(target, draft.notes, served, command)
