"""What becomes a model: by a file's name, and by what is in it where several kinds share a name."""

import zipfile
from pathlib import Path

from tuner.creation.batches import checked_batches
from tuner.creation.draft import Draft, Wanted
from tuner.creation.extras import needed
from tuner.creation.function import draft_of_function
from tuner.creation.onnx import draft_of_onnx
from tuner.creation.scalars import with_dims
from tuner.errors import UsageError

_TORCH = (".pt", ".pth", ".pt2")
_HINTS = {
    **dict.fromkeys(
        (".h5", ".keras", ".pb", ".tflite"),
        "export it to ONNX with tf2onnx, or name a function that calls it: service.py:predict",
    ),
    **dict.fromkeys(
        (".joblib", ".pkl"),
        "export it to ONNX with skl2onnx (zipmap=False), or name a function that calls it: "
        "service.py:predict",
    ),
    **dict.fromkeys(
        (".safetensors", ".bin", ".gguf"),
        "these are weights without a model; of transformers, name the folder with config.json, "
        "safetensors and tokenizer, else export the model with torch.export.save to a .pt2 file",
    ),
}


def draft_of(path: Path, function: str, wanted: Wanted, scratch: Path) -> Draft:
    """``scratch`` is a folder for what the model is converted to. UsageError where the source does
    not tell enough, or is none, with what to add.
    """
    return with_dims(_draft(path, function, wanted, scratch))


def _draft(path: Path, function: str, wanted: Wanted, scratch: Path) -> Draft:
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if path.suffix == ".py":
        if not function:
            raise UsageError(f"{path}: name the function, too, as in {path}:predict")
        largest = max(1, wanted.largest)
        return draft_of_function(path, function, wanted.name, wanted.inputs, largest)
    if path.suffix == ".onnx":
        draft = draft_of_onnx(path, wanted.name, wanted.largest)
        return checked_batches(draft, path, wanted.shapes)
    if path.is_dir():
        return _of_folder(path, wanted, scratch)
    if path.suffix in _TORCH:
        return _of_torch(path, wanted, scratch)
    raise UsageError(
        f"{path}: "
        + _HINTS.get(
            path.suffix,
            "give a file of ONNX or PyTorch, a folder of transformers, or a Python function: "
            "service.py:predict",
        )
    )


def _of_folder(folder: Path, wanted: Wanted, scratch: Path) -> Draft:
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{folder}: a folder is a model if it is one of transformers, with config.json, "
            "safetensors and tokenizer, as save_pretrained writes them"
        )
    with needed("transformers", "a folder of transformers"):
        from tuner.creation.transformers_folder import draft_of_transformers
    return draft_of_transformers(folder, wanted, scratch)


def _of_torch(path: Path, wanted: Wanted, scratch: Path) -> Draft:
    """Pickles are never loaded: whoever wrote one may have any code run. What PyTorch's archives
    hold beside their data tells them apart.
    """
    names = []
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name.partition("/")[2] for name in archive.namelist()]
        except zipfile.BadZipFile as error:
            raise UsageError(f"{path} is damaged: {error}") from error
    with needed("convert", "a file of PyTorch"):
        if "constants.pkl" in names:
            from tuner.creation.torch_script import draft_of_script as draft_of_file
        elif "archive_format" in names:
            from tuner.creation.torch_program import draft_of_program_file as draft_of_file
        else:
            raise UsageError(
                f"{path} holds weights or a pickled module, not a model that can be run without "
                "its Python code, and is not unpickled: that may run any code. Where the model is "
                "built, write torch.export.save(torch.export.export(model, (example,), "
                "dynamic_shapes=({0: torch.export.Dim('batch')},)), 'model.pt2')"
            )
    return draft_of_file(path, wanted, scratch)
