"""Which held-out rows a dictionary is judged on, from states made by hand."""

import torch

from energylens.activations.batch import Batch
from energylens.features.course import Sight
from energylens.features.dictionary import Dictionary
from energylens.features.frame import Frame
from energylens.features.ordinary import Ordinary
from energylens.features.stream import Job
from energylens.features.training import TrainOptions
from energylens.studies.train_dictionary.judge import Trained, _Judged
from tests.common.compare import assert_close

READ, WRITTEN = "blocks.0.resid_mid", "blocks.0.mlp_out"
D = 6


def test_what_is_massive_where_it_is_read_is_left_out_as_in_training(generator):
    """What is made of it is a thousand times too long, though the target is ordinary."""
    seen = {site: torch.randn(3, 12, D, generator=generator) for site in (READ, WRITTEN)}
    seen[READ][1, 5] *= 1e4
    eye = torch.eye(D)
    same = Dictionary(
        architecture="standard", k=D, W_enc=torch.cat([eye, -eye]), W_dec=torch.cat([eye, -eye]),
        b_enc=torch.zeros(2 * D), b_dec=torch.zeros(D), subtracts_b_dec=False,
    )  # fmt: skip
    job = Job(reads=(READ,), writes=(WRITTEN,), options=TrainOptions(width=2 * D, k=D))
    reads, writes = (Ordinary.of(seen[site].flatten(0, 1)) for site in (READ, WRITTEN))
    sight = Sight(ordinary=writes, frame=Frame.of(seen[WRITTEN].flatten(0, 1)))
    one = Trained(made=same, job=job, reads=reads, sight=sight)
    judged = _Judged(one=one, chance=same, documents=3)
    batch = Batch.full(torch.zeros(3, 12, dtype=torch.long), document=torch.arange(3))
    judged.see(seen, batch, None)
    found = judged.sums[WRITTEN, "trained"].result()
    rows = batch.scored.clone()
    rows[1, 5] = False
    assert judged.massive == 1 and int(found.samples.sum()) == int(rows.sum())
    error = (seen[WRITTEN] - seen[READ])[rows].double().square().sum()
    assert_close(found.residual.sum(), error, rtol=1e-5)
