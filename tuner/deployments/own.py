"""Services of the user's: any HTTP endpoint, described in YAML."""

import os
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tuner.deployments.base import Deployment
from tuner.deployments.payload import Payload
from tuner.deployments.service import EndpointDeployment, ServiceDeployment
from tuner.deployments.triton import RunningTriton
from tuner.documents import fault, parse_yaml, read_text
from tuner.errors import DocumentError, UsageError
from tuner.experiment.fields import Headers
from tuner.experiment.options import Duration
from tuner.load.target import Target, body_target
from tuner.model.config import parse_config
from tuner.security import Security
from tuner.servers.address import is_host
from tuner.servers.gpu import Gpus
from tuner.servers.service import ServiceSpec
from tuner.text import shortened, shown

_PORT = "{port}"
_PORTS = {"http": 80, "https": 443}


class OwnService(BaseModel):
    """Either ``url``, where it runs already, or ``command``, which starts it on ``{port}``, and
    the ``path`` that requests go to.

    ``body`` is a template of the request (see ``payload.fill``); without it, a request is as
    tuner's own services take it. ``ready`` is the path that answers 2xx once it is ready.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    title: str | None = None
    url: str | None = None
    command: tuple[str, ...] = ()
    path: str = "/predict"
    folder: Path | None = None
    env: dict[str, str] = Field(default_factory=dict)
    ready: str = "/"
    startup_timeout: Duration = Field(default=120.0, gt=0)
    method: str = Field(default="POST", pattern="^(POST|PUT)$")
    content_type: str = "application/json"
    headers: Headers = Field(default=(), repr=False)
    token_env: str | None = None
    body: Any = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (not self.command):
            raise ValueError("set either url, for a running service, or command")
        if self.command and not any(_PORT in word for word in self.command):
            raise ValueError(f"command must contain {_PORT}")
        if any("\0" in text for text in (*self.command, *self.env, *self.env.values())):
            raise ValueError("command and env must not contain null characters")
        if any("=" in name or not name for name in self.env):
            raise ValueError("the name of a variable must not be empty or contain an equals sign")
        if self.url is not None:
            parts = urlsplit(self.url)
            if "@" in parts.netloc:
                raise ValueError("a url must not contain a password; use headers or token_env")
            is_one = parts.scheme in _PORTS and is_host(parts.hostname or "") and parts.port != 0
            if not is_one or not _is_one_word(self.url):
                raise ValueError(f"url {shown(self.url)} is not valid; write http://HOST:PORT/PATH")
        for name, path in (("path", self.path), ("ready", self.ready)):
            if not path.startswith("/") or not _is_one_word(path):
                raise ValueError(
                    f"{name} {shown(path)} is not the path of a URL; write it like /predict"
                )
        if not self.content_type.isprintable():
            raise ValueError(f"content_type {shown(self.content_type)} is not valid")
        return self

    @property
    def shown(self) -> str:
        """Its address or its command, without possible secrets of a URL."""
        return " ".join(self.command) if self.url is None else self.url.partition("?")[0]

    def recorded(self) -> dict[str, Any]:
        """What a record may hold of it: no header, no value of a variable."""
        fields = self.model_dump(mode="json", exclude={"headers", "env"})
        url = None if self.url is None else self.shown
        return {**fields, "url": url, "env": sorted(self.env)}


def _is_one_word(text: str) -> bool:
    """Whether it may stand in the first line of a request."""
    return text.isprintable() and not any(letter.isspace() for letter in text)


def read_services(file: Path) -> dict[str, OwnService]:
    """Services by name; UsageError if the file cannot be read or has unknown fields."""
    source = shortened(str(file))
    try:
        text = read_text(file)
    except DocumentError as error:
        raise UsageError(f"cannot read {source}: {error}") from error
    try:
        content = parse_yaml(text).content
    except DocumentError as error:
        raise UsageError(f"{source}{error.place}: {error}") from error
    if not isinstance(content, dict) or not content:
        raise UsageError(f"{source}: it must map names of services to their settings")
    found = {}
    for name, entry in content.items():
        try:
            service = OwnService.model_validate(entry)
        except ValidationError as error:
            raise UsageError(f"{source}: {fault(error, str(name))}") from error
        found[str(name)] = _placed(service, file, f"{source}: {shortened(str(name))}")
    return found


def _placed(service: OwnService, file: Path, where: str) -> OwnService:
    """The folder of the service, relative to the file."""
    if service.folder is None:
        return service
    folder = file.parent / service.folder
    if not os.path.isdir(folder):
        raise UsageError(f"{where}.folder: the folder {shortened(str(folder))} does not exist")
    return service.model_copy(update={"folder": folder.resolve()})


def own_deployment(
    service: OwnService, payload: Payload, gpus: Gpus, cores: frozenset[int] = frozenset()
) -> Deployment:
    """UsageError if its headers are invalid, InputDataError if its template is."""
    security = Security.of(service.headers, service.token_env)
    bodies = payload.json(service.body)
    config = parse_config("", "a service")

    def aim(address: str, path: str, tls: bool = False) -> Target:
        method, kind = service.method, service.content_type
        return body_target(address, path, bodies, method, kind, tls, security)

    if service.url is not None:
        parts = urlsplit(service.url)
        port = parts.port or _PORTS[parts.scheme]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
        return EndpointDeployment(config, aim(f"{host}:{port}", path, parts.scheme == "https"))

    def specify(_: RunningTriton | None, log: Path) -> ServiceSpec:
        return ServiceSpec(
            lambda port: tuple(word.replace(_PORT, str(port)) for word in service.command),
            log,
            ready=service.ready,
            startup_timeout=service.startup_timeout,
            environment=service.env,
            folder=service.folder,
            cores=cores,
        )

    return ServiceDeployment(
        config, specify, lambda address: aim(address, service.path), gpus, counts=False
    )
