"""A provider: an HTTP server on a free port that answers with its id, and is registered.

    python -m waypost.cli.demo.provider SERVER SERVICE ID TTL

Says in one line when it is registered, and ends when its standard input does: so it never outlives
who started it, however that ends.
"""

import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import waypost


def main(server: str, service: str, instance_id: str, ttl: str) -> None:
    """Serve until standard input ends."""
    body = instance_id.encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    port = http.server_address[1]
    with (
        waypost.connect(server, cache_dir=None) as registry,
        registry.register(service, id=instance_id, host="127.0.0.1", port=port, ttl=float(ttl)),
    ):
        print(json.dumps({"event": "registered", "id": instance_id, "port": port}), flush=True)
        sys.stdin.read()
    http.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
