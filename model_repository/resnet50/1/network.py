"""ResNet with bottleneck blocks; by default ResNet-50 (He et al., 2015; stride in the 3x3).

Modules have torchvision's names, so that its weights load as they are.
"""

import numpy as np
import torch
from torch import Tensor, nn

_EXPANSION = 4
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class Network(nn.Module):
    def __init__(self, blocks: list[int], width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(_MEAN), persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(_DEVIATION), persistent=False)
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for stage, depth in enumerate(blocks):
            inner = width * 2**stage
            layers = []
            for block in range(depth):
                layers.append(Bottleneck(inputs, inner, 2 if stage and not block else 1))
                inputs = inner * _EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of images [batch, height, width, 3] of bytes."""
        x = (images.to(self.mean.dtype) - self.mean) / self.deviation
        x = x.permute(0, 3, 1, 2)  # already in the order that channels_last stores
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(1))

    def regions(self) -> list[nn.Module]:
        return [self]

    def illegal(self, images: np.ndarray) -> np.ndarray:
        """Which rows cannot be computed: none."""
        return np.zeros(len(images), dtype=bool)


def build(options: dict[str, str], outputs: int, weights: dict[str, Tensor] | None) -> nn.Module:
    """The network that the model's parameters describe, with so many classes."""
    torch.manual_seed(int(options.get("seed", "0")))
    blocks = [int(depth) for depth in options["blocks"].split(",")]
    network = Network(blocks, int(options["width"]), outputs)
    if weights is not None:
        network.load_state_dict(weights)
    return network


def example(batch: int, dims: list[list[int]], generator: torch.Generator) -> list[Tensor]:
    """Random images."""
    size = (batch, *dims[0])
    return [torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)]
