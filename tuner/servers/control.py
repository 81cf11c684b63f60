"""Triton's HTTP control API: health, model control, metadata, configuration, statistics."""

import json
import time
from types import TracebackType
from typing import Any
from urllib.parse import quote

import requests
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tuner.errors import LauncherUnavailable, ServerFailed
from tuner.servers.base import Endpoints, Server, error_lines, with_log
from tuner.servers.connection import open_session, refusal, status_message
from tuner.servers.settings import HTTP


class Control:
    """A client of one server's control API; every call raises ServerFailed where it cannot be had.

    The error says why in the server's own words, or, where the server is gone, its exit reason and
    the last lines of its log. Where authentication fails, it is LauncherUnavailable.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._root = f"{server.endpoints.root('http')}/v2"
        self._session = open_session(server.endpoints)

    def load(self, model: str, config_json: str | None, timeout: float) -> None:
        """Load the model, with this configuration in place of its config.pbtxt if one is given."""
        parameters = {"parameters": {"config": config_json}} if config_json is not None else {}
        self._call("POST", f"repository/models/{quote(model)}/load", timeout, parameters)

    def unload(self, model: str, timeout: float) -> None:
        self._call("POST", f"repository/models/{quote(model)}/unload", timeout, {})

    def is_ready(self, model: str) -> bool:
        """ServerFailed where the server does not say."""
        try:
            reply = self._session.get(
                f"{self._root}/models/{quote(model)}/ready", timeout=HTTP.metadata
            )
        except requests.RequestException as error:
            raise ServerFailed(f"the server does not say whether {model} is ready") from error
        self._raise_if_refused(reply)
        return reply.ok

    def server(self) -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return self._call("GET", "", HTTP.metadata)

    def metadata(self, model: str) -> dict[str, Any]:
        return self._call("GET", f"models/{quote(model)}", HTTP.metadata)

    def config(self, model: str) -> dict[str, Any]:
        """The configuration in force, after Triton filled in what was left out."""
        return self._call("GET", f"models/{quote(model)}/config", HTTP.metadata)

    def statistics(self, model: str) -> dict[str, Any]:
        """Cumulative statistics of the model's first version; empty where none are told."""
        versions = self._call("GET", f"models/{quote(model)}/stats", HTTP.metadata).get(
            "model_stats"
        )
        first = versions[0] if isinstance(versions, list) and versions else {}
        return first if isinstance(first, dict) else {}

    def register_memory(self, name: str, key: str, size: int) -> None:
        """Let the server map a region of shared memory of its machine."""
        region = {"key": key, "offset": 0, "byte_size": size}
        self._call(
            "POST", f"systemsharedmemory/region/{quote(name)}/register", HTTP.metadata, region
        )

    def unregister_memory(self, name: str) -> None:
        self._call("POST", f"systemsharedmemory/region/{quote(name)}/unregister", HTTP.metadata, {})

    def infer(
        self, model: str, body: bytes, header_length: int, timeout: float
    ) -> list[dict[str, Any]]:
        """One inference with binary tensors; name, datatype, shape and parameters of its outputs.

        ServerFailed, with the server's words, if it fails.
        """
        headers = {"Inference-Header-Content-Length": str(header_length)}
        try:
            reply = self._session.post(
                f"{self._root}/models/{quote(model)}/infer",
                data=body,
                headers=headers,
                timeout=timeout,
            )
        except requests.RequestException as error:
            raise ServerFailed(self._explain("the model did not answer an inference")) from error
        self._raise_if_refused(reply)
        if not reply.ok:
            message = self._hide(reply.text.strip()[: HTTP.inference_shown])
            raise ServerFailed(f"the model fails at an inference: {message}")
        try:
            length = int(reply.headers.get("Inference-Header-Content-Length", len(reply.content)))
            outputs: list[dict[str, Any]] = json.loads(reply.content[:length]).get("outputs", [])
        except ValueError as error:
            raise ServerFailed(f"the answer to an inference is not JSON: {error}") from error
        return outputs

    def metrics(self) -> str | None:
        """Prometheus text; None where the endpoint has none or does not answer."""
        if self._server.endpoints.metrics is None:
            return None
        try:
            url = f"{self._server.endpoints.root('metrics')}/metrics"
            reply = self._session.get(url, timeout=HTTP.metrics)
        except requests.RequestException:
            return None
        return reply.text if reply.ok else None

    def _call(
        self, method: str, path: str, timeout: float, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        url = f"{self._root}/{path}".rstrip("/")
        try:
            reply = self._session.request(method, url, json=body, timeout=timeout)
            self._raise_if_refused(reply)
            content = reply.json() if reply.content else {}
        except requests.Timeout as error:
            raise ServerFailed(
                self._explain(f"the server did not answer {path or 'v2'} within {timeout:g} s")
            ) from error
        except (requests.RequestException, ValueError) as error:
            raise ServerFailed(self._explain("the server stopped answering")) from error
        if not reply.ok:
            raise self._refused(content, reply.reason)
        if not isinstance(content, dict):
            raise ServerFailed(f"{url} is not a Triton endpoint")
        return content

    def _refused(self, content: Any, reason: str) -> Exception:
        """The error of a call that the server answered with another status than 2xx."""
        message = content.get("error", reason) if isinstance(content, dict) else content
        if "explicit model load / unload is not allowed" in str(message):
            return LauncherUnavailable(
                f"the server at {self._server.endpoints.http} takes no candidates: "
                "start it with --model-control-mode=explicit"
            )
        first_line = self._hide(f"the server refused: {message}")
        return ServerFailed("\n".join([first_line, *error_lines(self._server.log_tail())]))

    def _raise_if_refused(self, reply: requests.Response) -> None:
        refused = None if reply.ok else refusal(status_message(reply))
        if refused is not None:
            raise LauncherUnavailable(self._hide(refused))

    def _hide(self, text: str) -> str:
        return self._server.endpoints.security.hide(text)

    def _explain(self, failure: str) -> str:
        """The failure with the server's exit reason, if it ends, and the last lines of its log."""
        deadline = time.monotonic() + HTTP.dying
        while (reason := self._server.exit_reason()) is None and time.monotonic() < deadline:
            time.sleep(HTTP.dying_poll)  # a dying server closes its sockets before it has exited
        return with_log(f"{failure}: {reason}" if reason else failure, self._server)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> "Control":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def load_over_grpc(address: str, model: str, config_json: str | None, timeout: float) -> None:
    """As ``Control.load``, through the gRPC service at ``address``, without TLS."""
    with InferenceServerClient(address) as client:
        try:
            client.load_model(model, config=config_json, client_timeout=timeout)
        except InferenceServerException as error:
            raise ServerFailed(f"the server refused: {error.message()}") from error


def is_live(endpoints: Endpoints) -> bool:
    """Whether a Triton server answers there."""
    with open_session(endpoints) as session:
        try:
            return session.get(f"{endpoints.root('http')}/v2/health/live", timeout=HTTP.live).ok
        except requests.RequestException:
            return False
