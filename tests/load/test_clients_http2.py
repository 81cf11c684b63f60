"""The HTTP/2 client against a server of the grpc package."""

import asyncio

import grpc
import uvloop

from tuner.load.clients_http2 import GrpcClient
from tuner.load.target import Protocol, Target

_POOL = (b"a", b"bad", b"x" * 600_000)


async def _answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    if request == b"bad":
        await context.abort(grpc.StatusCode.INTERNAL, "no – good")
    return request


async def _outcomes(count: int) -> dict[int, tuple[bool, str]]:
    method = grpc.unary_unary_rpc_method_handler(_answer)
    server = grpc.aio.server()
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"ModelInfer": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found: dict[int, tuple[bool, str]] = {}
    over = asyncio.Event()

    def done(index: int, ok: bool, said: str) -> None:
        assert index not in found
        found[index] = (ok, said)
        if len(found) == count:
            over.set()

    client = GrpcClient(Target(Protocol.GRPC, f"127.0.0.1:{port}", _POOL), done)
    for index in range(count):
        client.send(index)
    await asyncio.wait_for(over.wait(), 20)
    await client.close()
    await server.stop(None)
    return found


def test_each_request_has_its_outcome_with_large_messages_and_errors() -> None:
    found = uvloop.run(_outcomes(300))
    expected = [(True, ""), (False, "no – good"), (True, "")]
    assert found == {index: expected[index % 3] for index in range(300)}
