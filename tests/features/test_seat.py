"""Where dictionaries sit: rows put side by side in units, and taken apart again."""

from dataclasses import replace

import pytest
import torch

from energylens.core.errors import BadInput
from energylens.features.seat import Seat, seat_of_crosscoder, seat_of_layers
from tests.common.compare import assert_close
from tests.studies.test_browse_placed import POST, D, cross_layer, crosscoder, rows


def test_a_crosscoder_in_units_makes_of_such_rows_what_it_makes_of_rows_as_they_are(generator):
    made = crosscoder(generator)
    seat, seen = seat_of_crosscoder(made, "mine"), rows(generator, POST[0], POST[2])
    assert (seat.reads, seat.writes, seat.writes_elsewhere) == (made.names, made.names, False)
    assert seat.site == f"{POST[0]}+{POST[2]}"
    read = seat.read(seen)
    assert_close(read, torch.cat([seen[POST[0]] / 2, seen[POST[2]] / 5], 1))
    in_units, code = made.in_units, made.encode(seen)
    assert_close(in_units.encode(read).dense(), code.dense(), rtol=1e-4, atol=1e-5)
    for site, part in seat.apart(in_units.reconstruct(read)).items():
        assert_close(part, made.reconstruct(seen)[site], rtol=1e-4, atol=1e-4)
    assert_close(in_units.W_dec, made.directions)


def test_sites_of_several_models_are_refused(generator):
    made = crosscoder(generator)
    two = [
        replace(site, name=f"{of}:{site.name}") for of, site in zip("ab", made.sites, strict=True)
    ]
    with pytest.raises(BadInput, match=r"mine is a crosscoder of several models \(a, b\)"):
        seat_of_crosscoder(replace(made, sites=tuple(two)), "mine")


def test_layers_read_and_write_as_their_settings_say(generator):
    seat = seat_of_layers(cross_layer(generator), "mine")
    assert seat.reads[1] == "blocks.1.resid_mid" and seat.writes[2] == "blocks.2.mlp_out"
    assert (seat.read_widths, seat.writes_elsewhere, len(seat.sites)) == ((D,) * 3, True, 6)
    with pytest.raises(BadInput, match="mine does not say what it reads and writes"):
        seat_of_layers(cross_layer(generator, feature_input_hook=None), "mine")


def test_one_site_is_taken_as_it_is(generator):
    seat, seen = Seat.of_site(POST[0], D), rows(generator, POST[0])
    assert seat.read(seen) is seen[POST[0]]
    assert seat.apart(seat.written(seen))[POST[0]] is not None
    batch = {POST[0]: seen[POST[0]].view(4, -1, D)}
    assert seat.apart(seat.written(batch))[POST[0]].shape == batch[POST[0]].shape
