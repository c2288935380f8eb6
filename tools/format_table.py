"""Every dictionary through the files of every program, and back through our code and theirs.

    PYTHONPATH=src:. .venv-peers/bin/python -m tools.format_table

`make formats` runs it in the environment of the peers, which is where their code is, and writes the
table into docs/formats.md. A peer that is not installed is a dash.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from energylens.features.agreement import agreement, apart_by, telling_rows
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary
from energylens.features.formats.convert import files_of
from energylens.features.formats.disk import read_json
from energylens.features.formats.recognise import load_dictionary
from energylens.results.format import number

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
BEGIN, END = "<!-- written by `make formats` -->\n", "<!-- to here -->"
D, WIDTH, K, ROWS = 64, 512, 16, 1024
SITE = "blocks.5.resid_post"

Peer = Callable[[Path, Tensor], Tensor]


class Case(NamedTuple):
    """A dictionary to write: where to, of which architecture, and what is special about it."""

    to: str
    architecture: str
    how: str = ""


CASES = (
    *(Case("saelens", name) for name in ("standard", "topk", "gated", "jumprelu", "batchtopk")),
    Case("saelens", "standard", "transcoder"), Case("saelens", "jumprelu", "transcoder"),
    Case("saelens", "standard", "skip"), Case("saelens", "jumprelu", "skip"),
    *(Case("sparsify", name, how) for name in ("topk", "groupmax")
      for how in ("", "transcoder", "skip")),
    Case("gemma_scope", "jumprelu", "transcoder"), Case("gemma_scope", "jumprelu"),
    Case("gemma_scope", "standard"), Case("gemma_scope", "jumprelu", "skip"),
    Case("circuit_tracer", "standard", "transcoder"),
    Case("circuit_tracer", "jumprelu", "transcoder"),
    Case("circuit_tracer", "standard"), Case("circuit_tracer", "jumprelu", "skip"),
    *(Case("dictionary_learning", name) for name in ("standard", "topk", "gated", "jumprelu")),
    Case("dictionary_learning", "standard", "transcoder"), Case("openai", "standard"),
)  # fmt: skip


def drawn(case: Case, generator: torch.Generator) -> Dictionary:
    """A dictionary of this kind, every weight drawn at random."""

    def of(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / D**0.5

    kind = ARCHITECTURES[case.architecture]
    own = {name: of(*w.shape).abs() for name, w in kind.own(WIDTH, of(1)).items()}
    return Dictionary(
        architecture=case.architecture, k=K, W_enc=of(WIDTH, D), b_enc=of(WIDTH),
        W_dec=of(WIDTH, D), b_dec=of(D), own=own, W_skip=of(D, D) if case.how == "skip" else None,
        subtracts_b_dec=not case.how,
        metadata={"hook_name": SITE, "model_name": "gemma-3-270m",
                  **({"hook_name_out": "blocks.5.mlp_out"} if case.how else {})},
    )  # fmt: skip


def rows_of_the_table() -> Iterator[tuple[Case, float, float | None]]:
    """Each case with the largest difference through our code, and through the peer's."""
    generator = torch.Generator().manual_seed(0)
    for case in CASES:
        source = drawn(case, generator)
        files, inside = files_of(source, case.to, allow_pickle=True)
        with tempfile.TemporaryDirectory() as place:
            for name in files:
                (Path(place) / "d" / name).parent.mkdir(parents=True, exist_ok=True)
            for name, write in files.items():
                write(Path(place) / "d" / name)
            path = Path(place) / "d" / inside
            written = load_dictionary(path, allow_pickle=True)
            source = ARCHITECTURES[case.architecture].finish(source)
            rows = telling_rows(source, ROWS, generator)
            ours = agreement(source, written, rows, generator)
            theirs = _peer(case, path, rows, source)
        yield case, 0.0 if ours.identical else ours.difference, theirs


def _peer(case: Case, path: Path, rows: Tensor, source: Dictionary) -> float | None:
    package, read = PEERS.get(case.to, ("", None))
    if read is None or find_spec(package) is None:
        return None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = read(path, rows)
    apart = apart_by(source.reconstruct(rows), made, source.b_dec)
    return float(apart[apart.isfinite()].max())


def _saelens(path: Path, rows: Tensor) -> Tensor:
    from sae_lens import SAE

    return SAE.load_from_disk(path)(rows)


def _sparsify(path: Path, rows: Tensor) -> Tensor:
    from sparsify import SparseCoder

    return SparseCoder.load_from_disk(path, device="cpu")(rows).sae_out


def _circuit_tracer(path: Path, rows: Tensor) -> Tensor:
    from circuit_tracer.transcoder.single_layer_transcoder import load_relu_transcoder

    single, cpu = torch.float32, torch.device("cpu")
    return load_relu_transcoder(str(path), 5, device=cpu, dtype=single)(rows)


def _gemma_scope(path: Path, rows: Tensor) -> Tensor:
    """SAELens' loaders of both releases, with the files at hand in place of a download."""
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from safetensors.torch import load_file

    def there(repo_id: str, filename: str, **_: object) -> str:
        return str(path / Path(filename).name)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        return {n: list(t.shape) for n, t in load_file(path / Path(filename).name).items()}

    sizes: dict[str, Any] = {"d_in": D, "d_sae": WIDTH}
    with (
        patch.object(loaders, "hf_hub_download", there),
        patch.object(loaders, "get_safetensors_tensor_shapes", shapes),
    ):
        if (path / "params.npz").is_file():
            config, state, _ = loaders.gemma_2_sae_huggingface_loader(
                "google/gemma-scope-2b-pt-res", "layer_5/width_16k/average_l0_16",
                cfg_overrides=sizes,
            )  # fmt: skip
        else:
            config, state, _ = loaders.gemma_3_sae_huggingface_loader(
                "google/gemma-scope-2-270m-pt", "transcoder/layer_5_width_16k_l0_small"
            )
    model = SAE.from_dict(loaders.handle_config_defaulting(config))
    model.load_state_dict(state)
    return model(rows)


def _dictionary_learning(path: Path, rows: Tensor) -> Tensor:
    """The class that the settings name; nnsight, which its buffers alone need, is stood in for."""
    stand_in: Any = ModuleType("nnsight")
    stand_in.LanguageModel = stand_in.Envoy = object
    with patch.dict(sys.modules, {"nnsight": stand_in}):
        from dictionary_learning import dictionary
        from dictionary_learning.trainers import top_k

        named = read_json(path / "config.json")["trainer"]["dict_class"]
        kind = getattr(dictionary, named, None) or getattr(top_k, named)
        return kind.from_pretrained(str(path / "ae.pt"))(rows)


PEERS: dict[str, tuple[str, Peer]] = {
    "saelens": ("sae_lens", _saelens), "sparsify": ("sparsify", _sparsify),
    "circuit_tracer": ("circuit_tracer", _circuit_tracer),
    "gemma_scope": ("sae_lens", _gemma_scope),
    "dictionary_learning": ("dictionary_learning", _dictionary_learning),
}  # fmt: skip
_CALLED = {"saelens": "SAELens", "sparsify": "sparsify", "circuit_tracer": "circuit-tracer",
           "gemma_scope": "Gemma Scope", "dictionary_learning": "dictionary_learning",
           "openai": "OpenAI"}  # fmt: skip


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| written as | dictionary | ours → file → ours | ours → file → theirs |",
        "|---" * 4 + "|",
    ]
    for case, ours, theirs in rows_of_the_table():
        how = "with a skip" if case.how == "skip" else case.how
        kind = f"{case.architecture} {how}".strip()
        lines.append(f"| {_CALLED[case.to]} | {kind} | {_told(ours)} | {_told(theirs)} |")
    return "\n".join(lines) + "\n"


def _told(apart: float | None) -> str:
    if apart is None:
        return "–"
    return number(apart, digits=1) if apart else "0"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
