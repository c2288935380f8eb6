"""What is browsed of each kind of dictionary: where it reads, and what it writes where."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from energylens.core.errors import BadInput
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.crosscoder import Crosscoder, Site
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import fvu
from energylens.studies.browse_dictionary import BrowseDictionary
from energylens.studies.browse_dictionary.placed import place
from energylens.studies.browse_dictionary.reading import _first_windows
from tests.common.compare import assert_close

D, WIDTH, ROWS = 12, 30, 400
POST = tuple(f"blocks.{n}.resid_post" for n in range(3))


def options(**asked) -> BrowseDictionary:
    return BrowseDictionary(dictionary=Path("mine"), **asked)


def weights(generator, d_in=D, d_out=D, k=3, **metadata) -> Dictionary:
    W_enc, W_dec = (torch.randn(WIDTH, d, generator=generator) for d in (d_in, d_out))
    return Dictionary(architecture="topk", k=k, W_enc=W_enc, W_dec=W_dec, metadata=metadata,
                      b_enc=torch.zeros(WIDTH), b_dec=torch.randn(d_out, generator=generator),
                      subtracts_b_dec=d_in == d_out)  # fmt: skip


def crosscoder(generator) -> Crosscoder:
    sites = tuple(Site(name=n, width=D, spread=by) for n, by in ((POST[0], 2.0), (POST[2], 5.0)))
    return Crosscoder(dictionary=weights(generator, 2 * D, 2 * D), sites=sites)


def cross_layer(generator, **metadata) -> CrossLayerTranscoder:
    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    return CrossLayerTranscoder(
        architecture="topk", k=3, layers=(0, 1, 2),
        W_enc=tuple(drawn(WIDTH, D) for _ in range(3)), b_enc=(torch.zeros(WIDTH),) * 3,
        W_dec=tuple(drawn(WIDTH, 3 - n, D) for n in range(3)), b_dec=drawn(3, D),
        metadata={"feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out"}
        | metadata,
    )  # fmt: skip


def rows(generator, *sites: str) -> dict[str, torch.Tensor]:
    return {site: torch.randn(ROWS, D, generator=generator) for site in sites}


def test_a_dictionary_writes_where_it_reads(generator):
    made = weights(generator, hook_name="blocks.1.hook_resid_post")
    found = place(made, options())
    assert (found.site, found.target, found.stream) == (POST[1],) * 3
    assert (found.kind, found.sites) == ("dictionary", [POST[1]])
    assert_close(found.to_stream, made.W_dec)
    seen = rows(generator, POST[1])
    assert_close(found.encode(seen).values, made.encode(seen[POST[1]]).values)
    assert found.fvu(seen) == float(fvu(seen[POST[1]], made.reconstruct(seen[POST[1]])))


def test_a_transcoder_writes_to_the_stream_that_its_target_is_added_to(generator):
    made = weights(generator, hook_name="blocks.1.resid_mid", hook_name_out="blocks.1.mlp_out")
    found = place(made, options())
    assert (found.kind, found.stream) == ("transcoder", POST[1])
    assert (found.site, found.target) == ("blocks.1.resid_mid", "blocks.1.mlp_out")
    seen = rows(generator, *found.sites)
    made_of = made.reconstruct(seen["blocks.1.resid_mid"])
    assert found.fvu(seen) == float(fvu(seen["blocks.1.mlp_out"], made_of))
    other = place(replace(made, metadata={}), options(site="blocks.0.ln2",
                                                      target_site="blocks.0.mlp.act"))  # fmt: skip
    assert other.stream is None and other.target == "blocks.0.mlp.act"


def test_a_crosscoder_is_measured_in_units_of_its_sites(generator):
    made = crosscoder(generator)
    found = place(made, options())
    assert (found.site, found.target) == ("+".join((POST[0], POST[2])),) * 2
    assert_close(found.directions, made.directions)
    assert_close(found.site_norms, made.norms)
    assert found.stream == POST[2]
    assert_close(found.to_stream, made.decoders[POST[2]])
    seen = rows(generator, POST[0], POST[2])
    assert_close(found.encode(seen).values, made.encode(seen).values)
    rebuilt = made.reconstruct(seen)
    left = sum(((seen[s.name] - rebuilt[s.name]) / s.spread).double().square().sum()
               for s in made.sites)  # fmt: skip
    whole = sum(((seen[s.name] - seen[s.name].mean(0)) / s.spread).double().square().sum()
                for s in made.sites)  # fmt: skip
    assert found.fvu(seen) == pytest.approx(float(left / whole), rel=1e-5)


def test_a_layer_of_many_adds_up_all_that_it_writes(generator):
    made = cross_layer(generator)
    found = place(made, options(layer=1))
    assert found.kind == "layer 1 of a cross-layer transcoder"
    assert found.reads == ("blocks.1.resid_mid",)
    assert found.writes == ("blocks.1.mlp_out", "blocks.2.mlp_out")
    assert found.stream == POST[2]
    assert_close(found.to_stream, made.W_dec[1].sum(1))
    assert_close(found.site_norms, made.W_dec[1].norm(dim=2))
    seen = rows(generator, *found.sites)
    inputs = {n: seen[f"blocks.{n}.resid_mid"] for n in range(3)}
    assert_close(found.encode(seen).values, made.encode(inputs)[1].values)
    rebuilt = made.reconstruct(inputs)[1]
    assert found.fvu(seen) == float(fvu(seen["blocks.1.mlp_out"], rebuilt))
    assert found.to("cpu", torch.float64).fvu(
        {site: its.double() for site, its in seen.items()}
    ) == pytest.approx(found.fvu(seen), rel=1e-4)


def test_the_first_look_keeps_to_the_budget(generator):
    found = place(cross_layer(generator), options(layer=0))
    each = 2 * 4 * 6 * D * 128 / 2**20  # six sites, in MB
    assert _first_windows(found, 6, 128, 1e6) == 32
    assert _first_windows(found, 6, 128, 2 * 10.5 * each) == 10
    assert _first_windows(found, 6, 128, 0.1 * each) == 1


def test_random_features_do_no_better_than_the_best_linear_map(generator):
    """Of a target that is a linear map of what is read, the map alone leaves nothing."""
    made = weights(generator, hook_name="blocks.1.resid_mid", hook_name_out="blocks.1.mlp_out")
    found = place(made, options())
    seen = rows(generator, "blocks.1.resid_mid")
    mixed = torch.randn(D, D, generator=generator)
    seen["blocks.1.mlp_out"] = seen["blocks.1.resid_mid"] @ mixed
    by_chance = [found.fvu_random(seen, k, torch.Generator().manual_seed(0)) for k in (1, 3, 12)]
    assert by_chance == sorted(by_chance, reverse=True)
    assert 0.05 < by_chance[-1] < by_chance[0] < 1
    few = {site: its[:D] for site, its in seen.items()}  # any target would fit
    assert math.isnan(found.fvu_random(few, 3, torch.Generator()))
    noise = seen | {"blocks.1.mlp_out": torch.randn(ROWS, D, generator=generator)}
    assert found.fvu_random(noise, 3, torch.Generator().manual_seed(0)) > 0.9


@pytest.mark.parametrize(
    ("kind", "asked", "words"),
    [
        ("plain", {}, r"mine does not say where it reads \(no hook_name\)"),
        ("plain", {"site": POST[0], "layer": 1}, "--layer 1 was given, and mine is no cross-layer"),
        ("elsewhere", {"site": POST[0]}, "is a transcoder from 12 to 7 values and does not say"),
        ("crosscoder", {"site": POST[0]}, "is a crosscoder of blocks.0.resid_post, blocks.2"),
        ("layers", {}, "^mine is a cross-layer transcoder of the layers 0, 1, 2: name with --l"),
        ("layers", {"layer": 9}, "--layer 9 was given, and mine is a cross-layer transcoder of"),
        ("layers", {"layer": 1, "target_site": POST[0]}, "it says itself where it belongs"),
        ("silent", {"layer": 1}, "does not say what it reads and writes in a block"),
    ],
)
def test_what_has_no_place_is_refused(generator, kind, asked, words):
    made = {
        "plain": lambda: weights(generator),
        "elsewhere": lambda: weights(generator, D, 7),
        "crosscoder": lambda: crosscoder(generator),
        "layers": lambda: cross_layer(generator),
        "silent": lambda: cross_layer(generator, feature_input_hook=None),
    }[kind]()
    with pytest.raises(BadInput, match=words):
        place(made, options(**asked))
