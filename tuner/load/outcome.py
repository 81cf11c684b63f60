"""How clients report what came of a request."""

from collections.abc import Callable

Done = Callable[[int, bool, str], None]
"""``done(index, ok, said)``, once per request; ``said`` is what is known of a failure."""
LONGEST = 4000
"""Characters kept of what a server says: a traceback's last line is the one that tells."""
