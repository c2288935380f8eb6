import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.sources import hub
from energylens.sources.model import load_model

COMMIT = "c" * 40


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the hub does, for one model in `folder`; counts what was asked."""

    folder: ClassVar[Path]
    asked: ClassVar[list[str]]

    def _answer(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        files = sorted(p.name for p in self.folder.iterdir())
        if path.startswith("/api/models/some/gated"):
            self._answer(403, b"{}", X_Error_Code="GatedRepo")
        elif path.startswith("/api/models/some/broken"):
            self._answer(500, b"{}")
        elif path.startswith("/api/models/some/model/revision/nope"):
            self._answer(404, b"{}", X_Error_Code="RevisionNotFound")
        elif path.startswith("/api/models/some/model/tree/"):
            sizes = {name: (self.folder / name).stat().st_size for name in files}
            tree = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": size}
                for name, size in sizes.items()
            ]
            self._answer(200, json.dumps(tree).encode(), Content_Type="application/json")
        elif path.startswith("/api/models/some/model"):
            siblings = [{"rfilename": name} for name in files]
            found = {"id": "some/model", "sha": COMMIT, "siblings": siblings}
            self._answer(200, json.dumps(found).encode(), Content_Type="application/json")
        elif path.startswith(f"/some/model/resolve/{COMMIT}/"):
            body = (self.folder / path.rsplit("/", 1)[1]).read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            self._answer(200, body, ETag=etag, X_Repo_Commit=COMMIT)
        else:
            self._answer(404, b"{}", X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.fixture
def fake_hub(model_folder, tmp_path, monkeypatch):
    """A hub on this machine that the client library asks, with an empty cache."""
    FakeHub.folder, FakeHub.asked = model_folder, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    point_at(monkeypatch, address, tmp_path / "cache")
    yield FakeHub
    server.shutdown()
    server.server_close()


def point_at(monkeypatch, address, cache):
    from huggingface_hub import _snapshot_download, constants, file_download, hf_api

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(hf_api.constants, "ENDPOINT", address)
    monkeypatch.setattr(file_download.constants, "ENDPOINT", address)
    monkeypatch.setattr(_snapshot_download.constants, "HF_HUB_CACHE", str(cache))
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def test_a_model_comes_whole_and_a_second_time_from_the_cache(fake_hub, capfd):
    (fake_hub.folder / "pytorch_model.bin").write_bytes(b"never fetched")
    (fake_hub.folder / "modeling_x.py").write_text("raise SystemExit")
    loaded = load_model("some/model")
    assert loaded.source == f"hub some/model@{COMMIT}" and loaded.revision == COMMIT
    assert (loaded.name, loaded.d_model) == ("model", 32)
    assert not any("pytorch_model.bin" in line or ".py" in line.split("/")[-1]
                   for line in fake_hub.asked if "resolve" in line)  # fmt: skip
    fake_hub.asked.clear()
    again = load_model("some/model", offline=True)
    assert again.sha256 == loaded.sha256 and again.revision == COMMIT
    assert fake_hub.asked == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("some/absent", None, "no path and no public hub model is named 'some/absent'"),
        ("some/gated", None, "is gated"),
        ("some/model", "nope", "has no revision 'nope'"),
        ("some/broken", None, r"the hub answered with an error \(500\)"),
        ("what is this", None, "neither a path that exists nor a hub id"),
    ],
)
def test_refusals_are_one_sentence(fake_hub, name, revision, message):
    with pytest.raises(BadInput, match=message) as error:
        load_model(name, revision=revision)
    assert "\n" not in str(error.value)


def test_a_hub_model_without_safetensors_is_refused_before_it_is_fetched(fake_hub):
    weights = fake_hub.folder / "model.safetensors"
    weights.rename(fake_hub.folder / "pytorch_model.bin")
    with pytest.raises(ArtifactRefused, match="has no safetensors"):
        load_model("some/model")
    assert not any("resolve" in line for line in fake_hub.asked)


def test_an_unreachable_hub_is_said_at_once(monkeypatch, tmp_path):
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"not on this machine and the hub gave no answer"):
        load_model("some/model")
    assert time.monotonic() - began < 15


def test_a_silent_hub_is_given_up_on(monkeypatch, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        point_at(monkeypatch, f"http://127.0.0.1:{mute.getsockname()[1]}", tmp_path)
        monkeypatch.setattr(hub, "ANSWER_WITHIN", 0.5)
        began = time.monotonic()
        with pytest.raises(BadInput, match=r"the hub gave no answer"):
            load_model("some/model")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("offline", [True, None])
def test_offline_never_asks(monkeypatch, tmp_path, offline):
    from huggingface_hub import constants

    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setattr(hub, "_ask", lambda *a: pytest.fail("the hub was asked"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline is None)
    with pytest.raises(BadInput, match="not on this machine and the hub is switched off"):
        load_model("some/model", offline=offline)
