"""How clients report the outcome of a request."""

from collections.abc import Callable

Done = Callable[[int, bool, str], None]
"""``done(index, ok, message)``, once per request; the message is what is known of a failure."""
MESSAGE_LENGTH = 4000
"""Characters kept of a server's message, from its end: a traceback's last line, which has the
exception, is among them."""
