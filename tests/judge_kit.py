"""A judge for the tests: an OpenAI-compatible server that says what it is told to, faults among it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from nacre.records.judge import Judge


class Fake:
    """A server that says what `reply` makes of each prompt; where that is a number, it is the status."""

    def __init__(self, reply):
        self.prompts, self.headers, self._lock = [], [], threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][0]["content"]
                with fake._lock:
                    fake.prompts.append(prompt)
                    fake.headers.append((self.path, self.headers.get("Authorization"), body))
                said = reply(prompt, len(fake.prompts))
                status, text = (
                    (said, f"told so, {self.headers.get('Authorization')}") if isinstance(said, int) else (200, said)
                )
                told = {"choices": [{"message": {"content": text}}]} if status == 200 else {"error": text}
                raw = said.decode() if isinstance(said, bytes) else json.dumps(told)
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw.encode())))
                self.end_headers()
                self.wfile.write(raw.encode())

            def log_message(self, *_):
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def settings(self, **more):
        return Judge(**({"url": self.url, "model": "wise", "retries": 2} | more))
