"""Providers that answer with their name, over gRPC and over HTTP."""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from tests.doors.program import LOOKS_EVERY_S


class Provider:
    """One, at two ports."""

    def __init__(self, name: str) -> None:
        self.name = name
        answer = name.encode()
        who = grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        self._grpc.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Echo", {"Who": who}),)
        )
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.http_port = self._http.server_address[1]
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(LOOKS_EVERY_S,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
