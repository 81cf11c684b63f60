"""Right answers, and wrong ones that come with a status of success."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from tests.load.http2_servers import Calls, Outcomes, grpc_server, tcp_server
from tuner.load.replies import Expected, ExpectedOutput, ReplyCheck
from tuner.load.transport import Transport

OUT = ExpectedOutput("OUT", "FP32", (2,), 4)
TEXT = ExpectedOutput("TEXT", "BYTES", (-1,), 0)
EXPECTED = Expected((OUT, TEXT), (1, 3), (0, 1))
Parts = dict[str, Any]


def described(batch: int = 1, **changes: Any) -> list[Parts]:
    sizes = {"OUT": 8 * batch, "TEXT": 6 * batch}
    entries = [
        {
            "name": name,
            "datatype": datatype,
            "shape": [batch, *dims],
            "parameters": {"binary_data_size": sizes[name]},
        }
        for name, datatype, dims in (("OUT", "FP32", (2,)), ("TEXT", "BYTES", (1,)))
    ]
    entries[0].update(changes)
    return entries


def http(outputs: Any, identity: str | None = "0", cut: int = 0, **more: Any) -> bytes:
    """A whole reply; ``cut`` bytes of its outputs are missing."""
    answer = {"model_name": "m", "model_version": "1", "outputs": outputs, **more}
    if identity is not None:
        answer["id"] = identity
    text = json.dumps(answer).encode()
    size = sum(map(_size, outputs)) if isinstance(outputs, list) else 0
    content = text + bytes(size - cut)
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _size(entry: Any) -> int:
    try:
        return int(entry["parameters"]["binary_data_size"])
    except (LookupError, TypeError):
        return 0


def fault(reply: bytes, index: int = 0) -> str | None:
    check = ReplyCheck(EXPECTED)
    found = check.http_fault(index, reply)
    assert check.http_fault(index, reply) == found  # also once it is known
    return found


class TestHttp:
    def test_right_answers_are_right(self) -> None:
        check = ReplyCheck(EXPECTED)
        for index in range(6):
            identity = str(index % 2)
            batch = (1, 3)[index % 2]
            assert check.http_fault(index, http(described(batch), identity)) is None

    def test_a_server_need_not_repeat_the_id(self) -> None:
        assert fault(http(described(), None)) is None

    def test_interim_replies_do_not_count(self) -> None:
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        assert fault(interim + interim + http(described())) is None

    def test_what_comes_in_chunks_is_taken_as_it_is(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert fault(head + b"2\r\n{}\r\n0\r\n\r\n") is None

    def test_a_description_longer_than_what_is_kept_is_taken_as_it_is(self) -> None:
        reply = http(described(), model_name="m" * 20_000)
        assert ReplyCheck(EXPECTED).http_fault(0, reply[: 1 << 14]) is None

    def test_a_process_that_sends_a_part_of_the_pool_knows_which(self) -> None:
        check = ReplyCheck(Expected((OUT, TEXT), (1, 3), (1,)))
        assert check.http_fault(0, http(described(3), "1")) is None
        assert "another request" in str(check.http_fault(0, http(described(1), "0")))

    def test_outputs_may_be_in_shared_memory(self) -> None:
        entries = [{**each, "parameters": {"shared_memory_region": "r"}} for each in described()]
        assert fault(http(entries)) is None

    @pytest.mark.parametrize(
        ("reply", "words"),
        [
            (http([], error="CUDA error: an illegal memory access"), "CUDA error: an illegal"),
            (http(described()[1:]), "output 'OUT' is missing"),
            (http(described(datatype="FP16")), "'OUT' is FP16, not FP32"),
            (http(described(shape=[1, 3])), "the shape [1, 3]"),
            (http(described(shape=[1])), "the shape [1]"),
            (http(described(shape=[-1, 2])), "the shape [-1, 2]"),
            (http(described(3)), "the shape [3, 2]"),
            (http(described(parameters={"binary_data_size": 4})), "has 4 bytes"),
            (http(described(parameters={"binary_data_size": 12})), "has 12 bytes"),
            (http(described(), cut=5), "9 bytes of outputs, not 14"),
            (http(described(3), "1"), "it belongs to another request"),
            (http("nonsense"), "not the JSON of a KServe inference"),
            (http([3]), "not the JSON of a KServe inference"),
            (http(described(shape=3)), "not the JSON of a KServe inference"),
            (http(described(parameters=3)), "not the JSON of a KServe inference"),
            (http(described(), "9" * 5000), "it belongs to another request"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                "not the JSON of a KServe inference",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
                "not the JSON of a KServe inference",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"[" * 9000,
                "not the JSON of a KServe inference",
            ),
        ],
    )
    def test_wrong_ones_are_wrong(self, reply: bytes, words: str) -> None:
        assert words in str(fault(reply))

    @given(st.binary(max_size=300))
    def test_any_bytes_have_a_fault(self, content: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        assert fault(head + content) is not None

    def test_descriptions_that_never_repeat_do_not_fill_the_memory(self) -> None:
        check = ReplyCheck(EXPECTED)
        for number in range(9000):
            assert check.http_fault(0, http(described(), model_name=str(number))) is None
        assert len(check._known) <= 4096


def grpc_reply(
    batch: int = 1, identity: str = "0", **changes: Any
) -> service_pb2.ModelInferResponse:
    reply = service_pb2.ModelInferResponse(model_name="m", model_version="1", id=identity)
    for entry in described(batch, **changes):
        reply.outputs.add(name=entry["name"], datatype=entry["datatype"], shape=entry["shape"])
    reply.raw_output_contents.append(np.zeros((batch, 2), np.float32).tobytes())
    reply.raw_output_contents.append(b"\x02\0\0\0ab" * batch)
    return reply


def grpc_fault(message: bytes, index: int = 0, expected: Expected = EXPECTED) -> str | None:
    return ReplyCheck(expected).grpc_fault(index, message, len(message))


class TestGrpc:
    def test_right_answers_are_right(self) -> None:
        assert grpc_fault(grpc_reply().SerializeToString()) is None
        assert grpc_fault(grpc_reply(3, "1").SerializeToString(), 1) is None

    @pytest.mark.parametrize("elements", [0, 1, 31, 32, 4096])
    def test_the_sizes_of_outputs_count(self, elements: int) -> None:
        output = ExpectedOutput("OUT", "FP32", (-1,), 4)
        expected = Expected((output,), None, (0,))
        reply = service_pb2.ModelInferResponse()
        reply.outputs.add(name="OUT", datatype="FP32", shape=[elements])
        reply.raw_output_contents.append(bytes(4 * elements))
        assert grpc_fault(reply.SerializeToString(), expected=expected) is None
        reply.raw_output_contents[0] += b"more"
        assert "bytes of outputs" in str(grpc_fault(reply.SerializeToString(), expected=expected))

    @pytest.mark.parametrize(
        ("message", "words"),
        [
            (grpc_reply(datatype="FP16").SerializeToString(), "is FP16"),
            (grpc_reply(name="OTHER").SerializeToString(), "output 'OUT' is missing"),
            (grpc_reply(shape=[-1, 2]).SerializeToString(), "the shape [-1, 2]"),
            (grpc_reply(shape=[1, 300]).SerializeToString(), "the shape [1, 300]"),
            (grpc_reply(3, "1").SerializeToString(), "it belongs to another request"),
            (b"", "output 'OUT' is missing"),
            (b"\x0a\xff", "not a ModelInferResponse"),
            (b"\x0a\x02\xff\xff", "wrong reply"),
            (b"\xff" * 20, "not a ModelInferResponse"),
        ],
    )
    def test_wrong_ones_are_wrong(self, message: bytes, words: str) -> None:
        assert words in str(grpc_fault(message))

    @given(st.binary(max_size=300))
    def test_any_bytes_have_a_fault(self, message: bytes) -> None:
        assert grpc_fault(message) is not None

    def test_a_client_counts_wrong_answers_as_failures(self) -> None:
        replies = {b"right": grpc_reply(), b"wrong": grpc_reply(datatype="FP16")}

        async def answer(request: bytes, _: Any) -> bytes:
            return bytes(replies[request].SerializeToString())

        async def run() -> Outcomes:
            expected = Expected((OUT, TEXT), (1, 1), (0, 1))
            async with grpc_server(answer) as (_, address):
                pool = (b"right", b"wrong")
                async with Calls(Transport.GRPC, address, pool, expected=expected) as calls:
                    calls.send(0, 1)
                    return await calls.come(2)

        replies[b"wrong"].id = "1"
        found = uvloop.run(run())
        assert found[0] == (True, "")
        assert found[1] == (False, "wrong reply: output 'OUT' is FP16, not FP32")


REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


def calls(talk: Callable[..., Awaitable[None]], count: int) -> Outcomes:
    async def run() -> Outcomes:
        async with tcp_server(talk) as address:
            expected = Expected((OUT, TEXT), (1, 1, 1), (0, 1, 2))
            pool = (REQUEST, REQUEST, REQUEST)
            async with Calls(Transport.HTTP, address, pool, expected=expected) as made:
                for index in range(count):
                    made.send(index)
                    await made.come(index + 1)
                return made.found

    return uvloop.run(run())


@pytest.mark.parametrize("pieces", [1, 3])
def test_replies_that_nobody_asked_for_answer_no_request(pieces: int) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reply = http(described(), "0")
        surplus = http(described(), "0")[: 300 // pieces]
        writer.write(reply + surplus)
        await writer.drain()
        await reader.read()

    found = calls(talk, 2)
    assert found[0] == (False, "the server sent a reply without a request")
    assert not found[1][0]


def test_a_late_reply_to_another_request_is_told_by_its_id() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http(described(), "0"))

    found = calls(talk, 3)
    assert [found[index][0] for index in range(3)] == [True, False, False]
    assert found[1][1] == "wrong reply: it belongs to another request"


def test_a_reply_in_pieces_is_read_from_its_beginning() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for index in range(2):
            await reader.readuntil(b"\r\n\r\n")
            reply = http(described(), str(index), cut=index)
            for start in range(0, len(reply), 50):
                writer.write(reply[start : start + 50])
                await writer.drain()
                await asyncio.sleep(0.002)

    found = calls(talk, 2)
    assert found[0] == (True, "")
    assert found[1] == (False, "wrong reply: 13 bytes of outputs, not 14")
