"""Triton's HTTP control API: health, model control, metadata, configuration, statistics."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any
from urllib.parse import quote

import requests
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tuner.documents import parse_json
from tuner.errors import DocumentError, LauncherUnavailable, ModelConfigError, ServerFailed
from tuner.load.target import model_path
from tuner.model.config import from_json
from tuner.model.signature import Signature
from tuner.servers.base import Endpoints, Server, error_lines, with_log
from tuner.servers.connection import error_message, open_client, refusal, status_message
from tuner.servers.http_client import Reply
from tuner.servers.python_errors import news, without_frames
from tuner.servers.settings import HTTP

_LOADED = re.compile(r"failed to load '([^']+)'")


class Control:
    """A client of one server's control API; every call raises ServerFailed if it fails.

    The error says why in the server's own words, or, where the server is gone, its exit reason and
    the last lines of its log. If authentication fails, it is LauncherUnavailable.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._root = f"{server.endpoints.root('http')}/v2"
        self._client = open_client(server.endpoints)

    def load(self, model: str, config_json: str | None, timeout: float) -> None:
        """Load the model, with this configuration in place of its config.pbtxt if one is given."""
        parameters = {"parameters": {"config": config_json}} if config_json is not None else {}
        self._call("POST", f"repository/{model_path(model)}/load", timeout, parameters)

    def unload(self, model: str, timeout: float) -> None:
        self._call("POST", f"repository/{model_path(model)}/unload", timeout, {})

    @contextmanager
    def loaded(self, models: Iterable[str], timeout: float) -> Iterator[None]:
        """These models are loaded meanwhile. Afterwards, a server that others run has those that it
        had before.
        """
        with ExitStack() as stack:
            for name in models:
                if self._server.pids() or not self.is_ready(name):
                    stack.callback(self._unload_again, name, timeout)
                    self.load(name, None, timeout)
            yield

    def _unload_again(self, model: str, timeout: float) -> None:
        """Unless the server is tuner's own, or gone: then nobody misses it."""
        if not self._server.pids():
            with suppress(ServerFailed):
                self.unload(model, timeout)

    def is_ready(self, model: str) -> bool:
        """ServerFailed if the server does not say."""
        try:
            url = f"{self._root}/{model_path(model)}/ready"
            reply = self._client.call("GET", url, HTTP.metadata)
        except requests.RequestException as error:
            raise ServerFailed(f"the server does not report whether {model} is ready") from error
        self._raise_if_refused(reply)
        return reply.ok

    def server(self) -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return self._call("GET", "", HTTP.metadata)

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """The configuration in force, after Triton filled in what was left out."""
        return self._call("GET", f"{model_path(model, version)}/config", HTTP.metadata)

    def in_force(self, model: str, version: str = "") -> Any:
        """The same as a ModelConfig."""
        try:
            return from_json(self.config(model, version))
        except ModelConfigError as error:
            raise self._not_triton(f"the configuration of {model}", error) from error

    def signature(self, model: str, version: str = "") -> Signature:
        """What the model takes and gives, as the server describes it."""
        metadata = self._call("GET", model_path(model, version), HTTP.metadata)
        try:
            return Signature.of_metadata(metadata, self.config(model, version))
        except ModelConfigError as error:
            raise self._not_triton(f"the metadata of {model}", error) from error

    def versions(self, model: str) -> list[str]:
        """Those that are served."""
        found = self._call("GET", model_path(model), HTTP.metadata).get("versions")
        return [str(each) for each in found] if isinstance(found, list) else []

    def statistics(self, model: str, version: str = "") -> dict[str, Any]:
        """Cumulative statistics of one version, by default the first one; empty if the server has
        none.
        """
        path = f"{model_path(model, version)}/stats"
        versions = self._call("GET", path, HTTP.metadata).get("model_stats")
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
        self, model: str, version: str, body: bytes, header_length: int, timeout: float
    ) -> dict[str, Any]:
        """One inference with binary tensors; the JSON part of the answer: version of the model, and
        name, datatype, shape and parameters of each output.

        ServerFailed, with the server's words, if it fails.
        """
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(header_length),
        }
        try:
            reply = self._client.call(
                "POST",
                f"{self._root}/{model_path(model, version)}/infer",
                timeout,
                data=body,
                headers=headers,
                limit=HTTP.largest_inference,
            )
        except requests.RequestException as error:
            raise ServerFailed(self._explain("the model did not answer an inference")) from error
        self._raise_if_refused(reply)
        if not reply.ok:
            message = without_frames(error_message(reply))[: HTTP.inference_shown]
            raise ServerFailed(f"the model failed an inference: {self._hide(message)}")
        try:
            length = int(reply.headers.get("Inference-Header-Content-Length", len(reply.content)))
            answer = parse_json(reply.content[:length])
        except (ValueError, DocumentError) as error:
            raise ServerFailed(f"the reply to an inference is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise ServerFailed(
                "the reply to an inference is not in Triton's format: no JSON object"
            )
        return answer

    def metrics(self) -> str | None:
        """Prometheus text; None if the endpoint has none or does not answer."""
        if self._server.endpoints.metrics is None:
            return None
        try:
            url = f"{self._server.endpoints.root('metrics')}/metrics"
            reply = self._client.call("GET", url, HTTP.metrics)
        except requests.RequestException:
            return None
        return reply.text if reply.ok else None

    def _call(
        self, method: str, path: str, timeout: float, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        url = f"{self._root}/{path}".rstrip("/")
        try:
            reply = self._client.call(method, url, timeout, json=body)
            self._raise_if_refused(reply)
            content = reply.json() if reply.content else {}
        except requests.Timeout as error:
            raise ServerFailed(
                self._explain(f"the server did not answer {path or 'v2'} within {timeout:g} s")
            ) from error
        except (requests.RequestException, DocumentError) as error:
            raise ServerFailed(self._explain("the server stopped answering")) from error
        if not reply.ok:
            raise self._refused(content, reply.reason)
        if not isinstance(content, dict):
            raise ServerFailed(f"{url} is not a Triton endpoint")
        return content

    def _refused(self, content: Any, reason: str) -> Exception:
        """The error of a call that the server answered with a status other than 2xx."""
        reported = content.get("error", reason) if isinstance(content, dict) else content
        message = without_frames(str(reported))[: HTTP.refusal_shown]
        if "explicit model load / unload is not allowed" in message:
            return LauncherUnavailable(
                f"the server at {self._server.endpoints.http} does not allow tuner to load "
                "configurations: start it with --model-control-mode=explicit"
            )
        first_line = self._hide(f"the server refused: {message}")
        logged = self._errors_of(message)
        return ServerFailed("\n".join([first_line, *map(self._hide, news(logged, message))]))

    def _errors_of(self, message: str) -> list[str]:
        """The log's last errors. A log that a container's engine keeps lags behind: wait until it
        names the model that the message names.
        """
        named = _LOADED.search(message)
        deadline = time.monotonic() + HTTP.log_lag
        while True:
            tail = self._server.log_tail()
            errors = error_lines(tail)
            has_all = not tail or named is None or any(named[1] in line for line in errors)
            if has_all or time.monotonic() > deadline:
                return errors
            time.sleep(HTTP.log_poll)

    def _not_triton(self, what: str, error: Exception) -> ServerFailed:
        reason = str(error).partition("\n")[0][: HTTP.shown]
        return ServerFailed(self._hide(f"{what} is not in Triton's format: {reason}"))

    def _raise_if_refused(self, reply: Reply) -> None:
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
        self._client.close()

    def __enter__(self) -> "Control":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def load_over_grpc(
    endpoints: Endpoints, model: str, config_json: str | None, timeout: float
) -> None:
    """As ``Control.load``, through the gRPC service, which must be offered, without TLS."""
    headers = endpoints.protection.grpc_headers() if endpoints.protection else None
    with InferenceServerClient(endpoints.grpc) as client:
        try:
            client.load_model(model, headers=headers, config=config_json, client_timeout=timeout)
        except InferenceServerException as error:
            raise ServerFailed(f"the server refused: {without_frames(error.message())}") from error


def is_live(endpoints: Endpoints) -> bool:
    """Whether a Triton server answers there."""
    with open_client(endpoints) as client:
        try:
            return client.call("GET", f"{endpoints.root('http')}/v2/health/live", HTTP.live).ok
        except requests.RequestException:
            return False
