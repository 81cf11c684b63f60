"""KServe's v2 protocol over HTTP, tensors in binary form: messages, and what errors mean."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import aiohttp
import urllib3

from tuner.client.connection import Connection
from tuner.client.description import Description
from tuner.client.errors import (
    ClientError,
    NotAllowed,
    ServerError,
    Timeout,
    Unavailable,
    refusal,
    unavailability,
)
from tuner.client.settings import REQUESTS
from tuner.client.tensors import Array, from_bytes, to_buffer
from tuner.documents import MALFORMED
from tuner.model.signature import TensorSpec
from tuner.text import shortened

Inputs = list[tuple[TensorSpec, Array]]
_LENGTH = "Inference-Header-Content-Length"


class HttpMessages:
    """Bodies of requests, and outputs out of the bodies of answers."""

    def __init__(self, connection: Connection) -> None:
        version = f"/versions/{quote(connection.version, '')}" if connection.version else ""
        self.path = f"/v2/models/{quote(connection.model, '')}{version}"
        self.where = connection.where
        self._model = connection.model
        self._headers = dict(connection.headers)

    def request(self, inputs: Inputs, request_id: str) -> tuple[bytes, dict[str, str]]:
        """Body and headers."""
        contents = [to_buffer(spec, array) for spec, array in inputs]
        header: dict[str, Any] = {
            "inputs": [
                {
                    "name": spec.name,
                    "datatype": spec.datatype,
                    "shape": array.shape,
                    "parameters": {"binary_data_size": len(content)},
                }
                for (spec, array), content in zip(inputs, contents, strict=True)
            ],
            "parameters": {"binary_data_output": True},
        }
        if request_id:
            header["id"] = request_id
        head = json.dumps(header, separators=(",", ":")).encode()
        own = {_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        return b"".join((head, *contents)), {**self._headers, **own}

    def outputs(self, body: bytes, length: str | None) -> dict[str, Array]:
        outputs: dict[str, Array] = {}
        try:
            at = len(body) if length is None else int(length)
            for output in json.loads(body[:at])["outputs"]:
                size = output["parameters"]["binary_data_size"]
                name, shape = output["name"], tuple(output["shape"])
                outputs[name] = from_bytes(name, output["datatype"], shape, body[at : at + size])
                at += size
        except MALFORMED as error:
            raise ServerError(
                f"{self.where} replied in an unknown format: {shortened(repr(error))}"
            ) from error
        return outputs

    def answer(self, status: int, body: bytes) -> bytes:
        """The body of an answer that succeeded; ClientError if it did not."""
        if status == 200:
            return body
        try:
            message = str(json.loads(body)["error"])[: REQUESTS.error_text]
        except MALFORMED:
            message = body.decode(errors="replace").strip()[: REQUESTS.http_error_text]
        raise self._error(status, message or f"HTTP status {status}")

    def _error(self, status: int, message: str) -> ClientError:
        match status:
            case 401 | 403:
                return NotAllowed(f"{self._model} says: {message}")
            case 429 | 502 | 503:
                return unavailability(f"{self.where} is not available: {message}")
            case 408 | 499 | 504:
                return Timeout(f"{self.where} did not reply in time: {message}")
            case _ if 300 <= status < 500:
                return refusal(f"{self._model} says: {message}")
            case _:
                return ServerError(f"{self._model} says: {message}")

    def description(self, metadata: bytes, config: bytes) -> Description:
        try:
            return Description.of(json.loads(metadata), json.loads(config))
        except (ServerError, *MALFORMED) as error:
            raise ServerError(
                f"{self.where} does not describe the model in Triton's format: "
                f"{shortened(str(error))}"
            ) from error

    @property
    def headers(self) -> dict[str, str]:
        return self._headers


class HttpTransport:
    """Blocking calls; for many threads at once."""

    def __init__(self, connection: Connection) -> None:
        self._messages = HttpMessages(connection)
        host, _, port = connection.address.rpartition(":")
        options: dict[str, Any] = {
            "maxsize": REQUESTS.idle_http_connections,
            "block": False,
            "retries": False,
        }
        self._pool = (
            urllib3.HTTPConnectionPool(host, int(port), **options)
            if connection.tls is None
            else urllib3.HTTPSConnectionPool(
                host, int(port), ssl_context=connection.tls.context(), **options
            )
        )

    def infer(self, inputs: Inputs, timeout: float | None, request_id: str) -> dict[str, Array]:
        body, headers = self._messages.request(inputs, request_id)
        reply = self._call("POST", "/infer", timeout, body, headers)
        content = self._messages.answer(reply.status, reply.data)
        return self._messages.outputs(content, reply.headers.get(_LENGTH))

    def describe(self, timeout: float | None) -> Description:
        replies = [self._call("GET", path, timeout) for path in ("", "/config")]
        metadata, config = (self._messages.answer(reply.status, reply.data) for reply in replies)
        return self._messages.description(metadata, config)

    def is_ready(self, timeout: float) -> bool:
        reply = self._call("GET", "/ready", timeout)
        return not self._messages.answer(reply.status, reply.data)

    def close(self) -> None:
        self._pool.close()

    def _call(
        self,
        method: str,
        path: str,
        timeout: float | None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        where = self._messages.where
        try:
            return self._pool.urlopen(
                method,
                self._messages.path + path,
                body,
                headers or self._messages.headers,
                redirect=False,
                timeout=urllib3.Timeout(total=timeout),
            )
        except urllib3.exceptions.TimeoutError as error:
            if isinstance(error, urllib3.exceptions.NewConnectionError):
                raise Unavailable(f"{where} is not available: {error}") from error
            raise Timeout(f"{where} did not answer in time") from error
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"{where} is not available: {error}") from error


class AioHttpTransport:
    """Calls of one event loop, which runs already; for many tasks at once."""

    def __init__(self, connection: Connection) -> None:
        self._messages = HttpMessages(connection)
        scheme = "http" if connection.tls is None else "https"
        self._root = f"{scheme}://{connection.address}{self._messages.path}"
        context = True if connection.tls is None else connection.tls.context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def infer(
        self, inputs: Inputs, timeout: float | None, request_id: str
    ) -> dict[str, Array]:
        body, headers = self._messages.request(inputs, request_id)
        status, content, length = await self._call("POST", "/infer", timeout, body, headers)
        return self._messages.outputs(self._messages.answer(status, content), length)

    async def describe(self, timeout: float | None) -> Description:
        replies = [await self._call("GET", path, timeout) for path in ("", "/config")]
        metadata, config = (
            self._messages.answer(status, content) for status, content, _ in replies
        )
        return self._messages.description(metadata, config)

    async def is_ready(self, timeout: float) -> bool:
        status, content, _ = await self._call("GET", "/ready", timeout)
        return not self._messages.answer(status, content)

    async def close(self) -> None:
        await self._session.close()

    async def _call(
        self,
        method: str,
        path: str,
        timeout: float | None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes, str | None]:
        """Status, body, and the length of the body's JSON part."""
        where = self._messages.where
        try:
            async with self._session.request(
                method,
                self._root + path,
                data=body,
                headers=headers or self._messages.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as reply:
                return reply.status, await reply.read(), reply.headers.get(_LENGTH)
        except asyncio.TimeoutError as error:  # noqa: UP041  aiohttp's is a subclass
            raise Timeout(f"{where} did not answer in time") from error
        except (aiohttp.ClientError, RuntimeError) as error:
            raise Unavailable(f"{where} is not available: {error}") from error
