import time

import pytest

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.sources import hub
from energylens.sources.model import load_model
from tests.common.hub import COMMIT, FakeHub, point_at, serving


@pytest.fixture
def fake_hub(model_folder, tmp_path, monkeypatch):
    """A hub on this machine that the client library asks, with an empty cache."""
    with serving(model_folder) as address:
        point_at(monkeypatch, address, tmp_path / "cache")
        yield FakeHub


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
