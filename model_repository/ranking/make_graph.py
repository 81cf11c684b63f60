"""Writes 1/model.onnx, the graph alone: ``pip install onnx``, then ``python make_graph.py``.

A layer is a product with a matrix [inputs, outputs], and a ReLU between two of them. The matrices
lie one after another in the file that weights.yaml describes, outside the graph.
"""

from itertools import pairwise

import onnx
import yaml
from onnx import TensorProto, helper

FLOAT_BYTES = 4


def main() -> None:
    with open("weights.yaml", encoding="utf-8") as file:
        sizes = yaml.safe_load(file)["layers"]
    nodes, matrices, offset, value = [], [], 0, "features"
    for number, shape in enumerate(pairwise(sizes), 1):
        length = FLOAT_BYTES * shape[0] * shape[1]
        matrices.append(external_matrix(f"weight_{number}", shape, offset, length))
        offset += length
        last = number == len(sizes) - 1
        product = "score" if last else f"product_{number}"
        nodes.append(helper.make_node("MatMul", [value, f"weight_{number}"], [product]))
        if not last:
            value = f"hidden_{number}"
            nodes.append(helper.make_node("Relu", [product], [value]))
    graph = helper.make_graph(
        nodes,
        "ranking",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", sizes[0]])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", sizes[-1]])],
        matrices,
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "1/model.onnx")


def external_matrix(name: str, shape: tuple[int, int], offset: int, length: int) -> TensorProto:
    """A matrix of float32 that lies outside the graph; offset and length in bytes."""
    matrix = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
    matrix.data_location = TensorProto.EXTERNAL
    place = {"location": "weights.bin", "offset": offset, "length": length}
    for key, value in place.items():
        matrix.external_data.add(key=key, value=str(value))
    return matrix


if __name__ == "__main__":
    main()
