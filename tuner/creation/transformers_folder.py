"""A repository's model out of a folder of transformers: configuration, safetensors and tokenizer.

Nothing is downloaded, and no code of the folder's own is run.
"""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from tuner.creation.draft import Draft, Wanted
from tuner.creation.pytorch import quiet, torch_run
from tuner.creation.text_processing import TOKENS, processing_of
from tuner.creation.torch_program import draft_of_program
from tuner.documents import parse_json, read_bytes
from tuner.errors import UsageError
from tuner.text import shortened, shown

_LENGTH = 128
"""Tokens of a text, where --shape names no other number: requests are padded to it."""
_TOKENIZER = "tokenizer.json"
_EXAMPLE = (2, 16)
"""Texts and tokens that the model is exported with; both may be any number afterwards."""


def draft_of_transformers(folder: Path, wanted: Wanted, scratch: Path) -> Draft:
    """With a ``processing.py`` that tokenizes texts. UsageError where the folder has no such model,
    or it is one that answers step by step.
    """
    with quiet():
        model, tokenizer = _model(folder), _tokenizer(folder)
    inputs = _inputs(model, tokenizer, folder)
    longest = _longest(model, tokenizer)
    length = _length(inputs, wanted, longest)
    program = _exported(model, inputs, longest, folder)
    asked = replace(wanted, shapes={**dict.fromkeys(inputs, (length,)), **wanted.shapes})
    draft = draft_of_program(folder, program, asked, scratch)
    shapes = dict.fromkeys(inputs, (length,) if draft.signature.batched else (1, length))
    outputs = [spec.name for spec in draft.signature.outputs]
    run = torch_run(
        lambda tensors: model(**dict(zip(inputs, tensors, strict=True))), inputs, outputs
    )
    files = {**draft.files, _TOKENIZER: folder / _TOKENIZER}
    texts = {"processing.py": processing_of(tokenizer, inputs, length)}
    notes = (*draft.notes, *_notes(model))
    return replace(draft, files=files, run=run, texts=texts, shapes=shapes, notes=notes)


def _model(folder: Path) -> Any:
    """On the processor, in single precision, with all of its weights."""
    name = _architecture(folder)
    kind: Any = getattr(transformers, name, None)
    if not _is_model(kind):
        raise UsageError(
            f"{folder}/config.json: transformers {transformers.__version__} has no architecture "
            f"{shown(name)}, and code of the folder's own is not run; export the model yourself, "
            "with torch.export.save to a .pt2 file"
        )
    transformers.utils.logging.disable_progress_bar()
    try:
        model, loading = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # of files, JSON, safetensors and the model itself
        raise UsageError(
            f"{folder}: {name} cannot be loaded: {shortened(str(error))}; write the folder with "
            "save_pretrained, which gives config.json and model.safetensors"
        ) from error
    absent = sorted({*loading["missing_keys"], *map(str, loading["mismatched_keys"])})
    if absent:
        raise UsageError(
            f"{folder}: {name} needs weights that model.safetensors lacks: "
            f"{shortened(', '.join(absent))}; set architectures in config.json to the class that "
            "was trained"
        )
    if model.config.is_encoder_decoder:
        raise UsageError(
            f"{folder}: {name} writes its answer step by step, which one call does not; name a "
            "function that calls it: service.py:predict with --input"
        )
    model.config.use_cache = False
    return model.eval()


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)


def _architecture(folder: Path) -> str:
    path = folder / "config.json"
    config = parse_json(read_bytes(path))
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise UsageError(
            f"{path}: architectures has to name one class of transformers, such as "
            '["BertForSequenceClassification"]'
        )
    return names[0]


def _tokenizer(folder: Path) -> Any:
    """What transformers makes of ``tokenizer.json``; without one it may make up an empty one."""
    try:
        if not (folder / _TOKENIZER).is_file():
            raise FileNotFoundError(f"there is no {_TOKENIZER}")
        return transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # as above
        raise UsageError(
            f"{folder}: no tokenizer can be loaded: {shortened(str(error))}; save it there with "
            "save_pretrained. A model of other things than texts: export it with "
            "torch.export.save to a .pt2 file"
        ) from error


def _inputs(model: Any, tokenizer: Any, folder: Path) -> list[str]:
    """Those of the model that the tokenizer gives."""
    taken = inspect.signature(model.forward).parameters
    found = [name for name in tokenizer("a") if name in taken and name in TOKENS]
    if not found:
        raise UsageError(
            f"{folder}: the model takes nothing that the tokenizer gives; set model_input_names in "
            "tokenizer_config.json"
        )
    return found


def _longest(model: Any, tokenizer: Any) -> int:
    """Text, in tokens; the tokenizer says a vast number where it does not know."""
    positions = getattr(model.config, "max_position_embeddings", None)
    known = [n for n in (tokenizer.model_max_length, positions) if isinstance(n, int) and n > 0]
    return min(known, default=1 << 20)


def _length(inputs: list[str], wanted: Wanted, longest: int) -> int:
    for name in inputs:
        for length in wanted.shapes.get(name, ())[-1:]:
            if length > longest:
                raise UsageError(
                    f"--shape {name}:{length}: the model takes {longest} tokens at most"
                )
            return length
    return min(_LENGTH, longest)


def _exported(model: Any, inputs: list[str], longest: int, folder: Path) -> Any:
    texts, tokens = _EXAMPLE
    shape = (texts, min(tokens, longest))
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=longest)
    dimensions = {name: {0: batch, 1: sequence} for name in inputs}
    example = {name: torch.full(shape, int(name == "attention_mask")) for name in inputs}
    try:
        with quiet():
            return torch.export.export(model, (), example, dynamic_shapes=dimensions)
    except Exception as error:  # whatever the model's own code raises
        raise UsageError(
            f"{folder}: PyTorch cannot export the model: {shortened(str(error))}; name a function "
            "that calls it: service.py:predict with --input"
        ) from error


def _notes(model: Any) -> tuple[str, ...]:
    notes = ["processing.py tokenizes texts; say in its decode what the outputs mean"]
    if model.can_generate():
        notes.append("each call computes all tokens anew: no model to generate text with")
    return tuple(notes)
