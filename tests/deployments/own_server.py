"""A service of a user's, with a form of its own: ``own_server.py PORT [broken]``.

GET / says that it is ready; POST /classify takes {"inputs": [text]}, and nothing else.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(200, {"status": "up"})

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fits = self.path == "/classify" and list(content) == ["inputs"]
        time.sleep(0.002)
        if not fits or "broken" in sys.argv:
            self._answer(500, {"error": "no such form"})
        else:
            self._answer(201, {"lengths": [len(text) for text in content["inputs"]]})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
