"""A small server with the part of the Hugging Face Hub's protocol that downloads need."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def fake_hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """The server's address, and the paths that it was asked for.

    Args:
        repositories: files by repository: "models/OWNER/NAME" or "datasets/OWNER/NAME". Each has one commit.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].strip("/")
            asked.append(path)
            for name, files in repositories.items():
                if path in (f"api/{name}", f"api/{name}/revision/main", f"api/{name}/revision/{COMMIT}"):
                    return self.send({"id": name.partition("/")[2], "sha": COMMIT, "siblings": []})
                if path == f"api/{name}/tree/{COMMIT}":
                    return self.send(
                        [
                            {"type": "file", "path": each, "size": len(content), "oid": digest(content)}
                            for each, content in files.items()
                        ]
                    )
                place = re.fullmatch(rf"{name.removeprefix('models/')}/resolve/[^/]+/(.+)", path)
                if place and place[1] in files:
                    return self.send(files[place[1]])
            return self.send({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

        def send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for key, value in {
                "ETag": f'"{digest(body)}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **(headers or {}),
            }.items():  # fmt: skip
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
