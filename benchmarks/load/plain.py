"""A closed loop as a user of tritonclient would write it, in a process of its own.

``python -m benchmarks.load.plain PROTOCOL ADDRESS CONCURRENCY SECONDS`` prints a JSON object.
"""

import asyncio
import json
import resource
import sys
import time
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpc_client
import tritonclient.http.aio as http_client


async def main(protocol: str, address: str, concurrency: int, seconds: float) -> dict[str, Any]:
    library: Any = grpc_client if protocol == "grpc" else http_client
    item = np.random.default_rng(0).random((1, 16)).astype(np.float32)
    async with library.InferenceServerClient(address) as client:
        count = 0

        async def one(end: float) -> None:
            nonlocal count
            while time.monotonic() < end:
                tensor = library.InferInput("INPUT", item.shape, "FP32")
                tensor.set_data_from_numpy(item)
                await client.infer("emulated_gpu", [tensor])
                count += 1

        await asyncio.gather(*(one(time.monotonic() + 0.2) for _ in range(concurrency)))
        count, before = 0, resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.gather(*(one(time.monotonic() + seconds) for _ in range(concurrency)))
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"requests": count, "cpu": cpu}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4])))))
