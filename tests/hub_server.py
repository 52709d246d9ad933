"""A stand-in for the hub's HTTP interface: makes repositories, takes files as git and as LFS objects, commits them."""

import base64
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_standInTokenOfTheTests"
LARGE = 10_000  # bytes from which a file goes up as an LFS object


@dataclass
class Hub:
    """What arrived. `refusal` is the status that every request gets instead, with a body that repeats the token."""

    url: str = ""
    refusal: int | None = None
    made: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    files: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])

    def answer(self, path: str, body: bytes) -> Any:
        """The reply to a POST."""
        repo = "/".join(path.split("/")[2:5])
        if path == "/api/repos/create":
            self.made.append(json.loads(body))
            kind = "datasets/" if self.made[-1].get("type") == "dataset" else ""
            return {"url": f"{self.url}/{kind}{self.made[-1]['organization']}/{self.made[-1]['name']}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            mode = {True: "lfs", False: "regular"}
            return {
                "files": [
                    {"path": f["path"], "uploadMode": mode[f["size"] >= LARGE], "shouldIgnore": False} for f in files
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            upload = [
                {**o, "actions": {"upload": {"href": f"{self.url}/upload/{o['oid']}", "header": {}}}} for o in objects
            ]
            return {"transfer": "basic", "objects": upload}
        assert "/commit/" in path, path
        for entry in map(json.loads, body.splitlines()):
            value = entry["value"]
            if entry["key"] == "file":
                self.files.setdefault(repo, {})[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.files.setdefault(repo, {})[value["path"]] = self.objects[value["oid"]]
        return {"success": True, "commitUrl": f"{self.url}/{repo}/commit/1", "commitOid": "1" * 40}


@contextmanager
def serving() -> Generator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _send(self, status: int, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            body = self._body()
            if hub.refusal is not None:
                self._send(hub.refusal, {"error": f"no: {self.headers.get('Authorization')}"})
            elif self.path != "/api/validate-yaml" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send(401, {"error": "who is it?"})
            else:
                self._send(200, hub.answer(self.path.split("?")[0], body))

        def do_PUT(self) -> None:
            hub.objects[self.path.rpartition("/")[2]] = self._body()
            self._send(200, {})

        def do_GET(self) -> None:
            self._send(404, {"error": "not here"})

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
