"""A hub on this machine, which the hub's own library asks: what tests fetch from and push to."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import yaml

COMMIT = "c" * 40
TOKEN = "hf_may_write"


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the hub does, for one model whose files lie in `folder`; counts what was asked.

    Attributes:
        folder: Files of some/model.
        asked: Requests, as method and path.
        made: What repositories were asked to be made with.
    """

    folder: ClassVar[Path]
    asked: ClassVar[list[str]]
    made: ClassVar[list[dict]]

    def _answer(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, found, status=200):
        self._answer(status, json.dumps(found).encode(), Content_Type="application/json")

    def do_GET(self):
        path = unquote(self.path.split("?")[0])
        self.asked.append(f"{self.command} {path}")
        files = {
            p.relative_to(self.folder).as_posix(): p
            for p in sorted(self.folder.rglob("*")) if p.is_file()
        }  # fmt: skip
        if path.startswith("/api/models/some/gated"):
            self._answer(403, b"{}", X_Error_Code="GatedRepo")
        elif path.startswith("/api/models/some/broken"):
            self._answer(500, b"{}")
        elif path.startswith("/api/models/some/model/revision/nope"):
            self._answer(404, b"{}", X_Error_Code="RevisionNotFound")
        elif path.startswith("/api/models/some/model/tree/"):
            self._json([
                {"type": "file", "path": name, "oid": "0" * 40, "size": file.stat().st_size}
                for name, file in files.items()
            ])  # fmt: skip
        elif path.startswith("/api/models/some/model"):
            siblings = [{"rfilename": name} for name in files]
            self._json({"id": "some/model", "sha": COMMIT, "siblings": siblings})
        elif path.startswith("/api/datasets/some/data"):
            self._json({"id": "some/data", "sha": COMMIT, "siblings": []})
        elif path.startswith("/some/model/resolve/"):
            self._file(files.get(path.split("/", 5)[5]))
        else:
            self._answer(404, b"{}", X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def _file(self, file):
        if file is None:
            self._answer(404, b"{}", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            return
        body = file.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        self._answer(200, body, ETag=etag, X_Repo_Commit=COMMIT)

    def do_POST(self):
        path = unquote(self.path.split("?")[0])
        self.asked.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/validate-yaml":
            head = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            bad = not isinstance(head.get("tags"), list) or head.get("license") == "none such"
            errors = [{"message": "license is not allowed"}] if bad else []
            self._json({"errors": errors, "warnings": []}, 400 if bad else 200)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            self.made.append(json.loads(body))
            self._json({"url": f"http://{self.headers['Host']}/some/model"})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for file in files]  # fmt: skip
            self._json({"files": modes})
        elif "/commit/" in path:
            self._keep(body)
            url = f"http://{self.headers['Host']}/some/model/commit/{COMMIT}"
            self._json({"commitUrl": url, "commitOid": COMMIT})
        else:
            self._answer(404, b"{}")

    def _keep(self, body):
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                file = self.folder / line["value"]["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(line["value"]["content"]))

    def log_message(self, *args):
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a hub whose some/model is a folder."""
    FakeHub.folder, FakeHub.asked, FakeHub.made = folder, [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def point_at(monkeypatch, address, cache):
    """Make the library ask this address, with a cache of its own and no token."""
    from huggingface_hub import _snapshot_download, constants, file_download, hf_api

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(Path(cache) / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(hf_api.constants, "ENDPOINT", address)
    monkeypatch.setattr(file_download.constants, "ENDPOINT", address)
    for module in (constants, file_download.constants, _snapshot_download.constants):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(cache))
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
