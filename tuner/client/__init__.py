"""A typed client of Triton: one item or many, over gRPC or HTTP, blocking or with asyncio."""

from tuner.client.aio import AsyncTritonClient
from tuner.client.connection import Tls
from tuner.client.description import Description
from tuner.client.sync import TritonClient

__all__ = ["AsyncTritonClient", "Description", "Tls", "TritonClient"]
