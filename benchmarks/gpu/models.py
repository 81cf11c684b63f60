"""The models that are measured: as they are in the repository, or small for a dry run."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.model.config import read_config, to_text

SOURCE = Path(__file__).parents[2] / "model_repository"
MODELS = ("bert_base", "resnet50")
SMALL = {
    "bert_base": {
        "layers": "1",
        "hidden": "32",
        "heads": "2",
        "intermediate": "64",
        "vocabulary": "200",
    },
    "resnet50": {"blocks": "1,1", "width": "4"},
}
REQUESTS = 64


@dataclass(frozen=True)
class Workbench:
    """A model repository to measure, and how thoroughly.

    ``dry`` shrinks all of it so that every step runs on a processor within seconds; the figures
    then mean nothing.
    """

    folder: Path
    dry: bool

    @property
    def repository(self) -> Path:
        return self.folder / "models"

    @property
    def loop_seconds(self) -> float:
        """How long a batch size is tried in the tight loop."""
        return 0.1 if self.dry else 1.5

    @property
    def batches(self) -> list[int]:
        return [1, 4] if self.dry else [1, 2, 4, 8, 16, 32, 64, 128]

    def prepare(self) -> None:
        """Copy the models, and write requests that look like real ones."""
        for model in MODELS:
            copy = self.repository / model
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(SOURCE / model, copy, dirs_exist_ok=True, ignore=ignored)
            if self.dry:
                config = read_config(copy)
                for key, value in SMALL[model].items():
                    config.parameters[key].string_value = value
                config.max_batch_size = 4
                (copy / "config.pbtxt").write_text(to_text(config), encoding="utf-8")
        self._write_texts()

    def options(self, model: str) -> dict[str, str]:
        parameters = read_config(self.repository / model).parameters
        return {key: value.string_value for key, value in parameters.items()}

    def dims(self, model: str) -> list[list[int]]:
        return [list(entry.dims) for entry in read_config(self.repository / model).input]

    def outputs(self, model: str) -> int:
        return int(read_config(self.repository / model).output[0].dims[-1])

    @property
    def texts(self) -> Path:
        """Requests of bert_base."""
        return self.folder / "texts.json"

    def inputs(self, model: str) -> list[str]:
        """Options that say what is sent: token ids of the whole vocabulary, nothing masked."""
        return ["--input-data", str(self.texts)] if model == "bert_base" else []

    def _write_texts(self) -> None:
        """Distinct texts of full length: the most work that a request can be."""
        length = self.dims("bert_base")[0][-1]
        vocabulary = int(self.options("bert_base")["vocabulary"])
        ids = np.random.default_rng(0).integers(0, vocabulary, (REQUESTS, length))
        mask = [1] * length
        data = [{"input_ids": row.tolist(), "attention_mask": mask} for row in ids]
        self.texts.write_text(json.dumps({"data": data}), encoding="utf-8")
