"""Errors of the client.

ClientError
├── InvalidInput   the tensors do not fit the model; nothing was sent
├── Refused        the server rejected the request, and would reject it again
│   ├── UnknownModel   the server has no such model, or no such version of it
│   └── NotAllowed     authentication failed
├── Unavailable    the server, or the model on it, is not available right now
│   └── Overloaded     its queue is full; an immediate retry makes it worse
├── Timeout        no reply within the timeout
└── ServerError    the server or the model failed at this request
"""

from tuner.errors import TunerError

_QUEUE_FULL = ("maximum queue size", "timeout expired")
_LOADING = ("has no available versions", "is not ready")


class ClientError(TunerError):
    """Root of what a client raises about a request."""


class InvalidInput(ClientError):
    pass


class Refused(ClientError):
    pass


class UnknownModel(Refused):
    pass


class NotAllowed(Refused):
    pass


class Unavailable(ClientError):
    pass


class Overloaded(Unavailable):
    pass


class Timeout(ClientError):
    pass


class ServerError(ClientError):
    pass


def unavailability(message: str) -> ClientError:
    """The error of an unavailable server, by the reason in its message."""
    kind = Overloaded if any(text in message for text in _QUEUE_FULL) else Unavailable
    return kind(message)


def refusal(message: str) -> ClientError:
    """The error of a refused request. Triton gives the same status to a model that is unknown and
    to one that is loaded or unloaded right now, so the message decides.
    """
    if any(text in message for text in _LOADING):
        return Unavailable(message)
    return UnknownModel(message) if "unknown model" in message else Refused(message)
