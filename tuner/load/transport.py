"""How requests travel."""

from enum import StrEnum


class Transport(StrEnum):
    HTTP = "http"
    GRPC = "grpc"
