"""What a service is told when it starts. Its workers get it through their environment."""

import os
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from tuner.errors import UsageError

ENVIRONMENT = "TUNER_SERVICE"
"""The variable that holds the settings as JSON, from the supervisor to its workers."""
REPLACEMENT = "TUNER_REPLACEMENT"
"""Set to 1 for workers that take over from others: they load first and accept connections then."""


class ServiceSettings(BaseModel):
    """``timeout`` is what a request may take, ``graceful`` what requests get to end in at a stop,
    ``startup`` what a worker may take to load its model, all in seconds; ``max_body`` is in bytes;
    ``max_items`` bounds a ``/batch_predict``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    timeout: float = Field(default=10.0, gt=0)
    graceful: float = Field(default=10.0, gt=0)
    startup: float = Field(default=600.0, gt=0)
    max_body: int = Field(default=1 << 20, ge=1)
    max_items: int = Field(default=256, ge=1)

    @classmethod
    def from_environment(cls) -> Self:
        """What ``to_environment`` left; UsageError where nothing did."""
        text = os.environ.get(ENVIRONMENT)
        if text is None:
            raise UsageError(f"{ENVIRONMENT} is not set; start the service with 'tuner serve'")
        return cls.model_validate_json(text)

    def to_environment(self) -> None:
        os.environ[ENVIRONMENT] = self.model_dump_json()


def is_replacement() -> bool:
    return os.environ.get(REPLACEMENT) == "1"
