"""How clients report what came of a request."""

from collections.abc import Callable

Done = Callable[[int, bool, str], None]
"""``done(index, ok, message)``, once per request; the message is what is known of a failure."""
MESSAGE_LENGTH = 4000
"""Characters kept of what a server says, from its end: so a traceback's last line, the one that
tells, is among them."""
