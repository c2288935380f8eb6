"""Judge one dictionary from Python, on windows of one's own; the study does more, and keeps it."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from energylens.activations.subject import Subject
from energylens.core.ports import Progress, silence
from energylens.features.formats.recognise import Loaded
from energylens.results.format import interval, number, percent
from energylens.results.show import Bar, Row, Shown, ShowsItself
from energylens.sources.windows import TokenWindows
from energylens.studies.energy_lens.tables import table
from energylens.studies.evaluate_dictionary.entries import check_entry, seated
from energylens.studies.evaluate_dictionary.finding import CALLED
from energylens.studies.evaluate_dictionary.material import Read, check_fit
from energylens.studies.evaluate_dictionary.measuring import measure_rows, substitution_losses
from energylens.studies.evaluate_dictionary.rivals import (
    active_features,
    fit_rivals,
    join_rivals,
    layers_of,
    rows_of,
    short_options,
)
from energylens.studies.evaluate_dictionary.tables import ITSELF, Judged, shape_of, sums_by_kind

_LABEL = "dictionary"


@dataclass(frozen=True, kw_only=True, repr=False)
class Judgement(ShowsItself):
    """A dictionary beside its baselines on held-out documents."""

    judged: Judged

    def table(self) -> pa.Table:
        """One row a contender, with the columns of the study's table `evaluation`."""
        return table(list(self.judged.rows()))

    def differences(self) -> pa.Table:
        """The dictionary less each baseline, measure by measure."""
        return table(list(self.judged.differences()))

    def sites(self) -> pa.Table:
        """Variance unexplained at each site, of what writes several; one row a contender."""
        return table(list(self.judged.sites()))

    def shown(self) -> Shown:
        rows = {row["contender"]: row for row in self.judged.rows()}
        null, own = rows["random"], rows[ITSELF]
        return Shown(
            caption=f"Variance unexplained at {own['target_site']}, L0 {number(own['l0'])}",
            one_scale=True,
            rows=[
                Row(
                    label=CALLED[name],
                    value=interval(row["fvu"], row["fvu_low"], row["fvu_high"]),
                    told=(f"loss recovered {percent(row['loss_recovered_ce'])}",),
                    bar=Bar(value=row["fvu"], low=row["fvu_low"], high=row["fvu_high"],
                            null_low=null["fvu_low"], null_high=null["fvu_high"]),
                )
                for name, row in rows.items()
            ],
            notes=[
                f"95 % over {own['n_documents']} documents, {own['rows']:,} tokens;"
                f" {own['massive_rows']:,} massive rows left out.",
                "Grey: random directions of the same width and k. `energylens run"
                " evaluate-dictionary` adds a random-weight model.",
            ],
        )  # fmt: skip


def judge(
    subject: Subject,
    dictionary: Loaded,
    fit: TokenWindows,
    held_out: TokenWindows,
    site: str | None = None,
    *,
    target_site: str | None = None,
    memory_mb: int = 1500,
    seed: int = 0,
    progress: Progress = silence,
) -> Judgement:
    """Measures of a dictionary beside PCA, ICA, random directions and short trainings.

    Args:
        dictionary: Of one site or of several.
        fit: Windows that the baselines are fitted on.
        held_out: Windows of other documents, that all is measured on.
        site: Where it reads; as it says itself unless given.
        target_site: Where a transcoder writes.

    Raises:
        BadInput: If it does not say where it belongs, or its rows are not as wide as the site's.
        InsufficientData: If there are fewer rows to fit on than dimensions.
    """
    like = next(subject.module.parameters())
    entry = seated(
        dictionary.to(like.device, like.dtype), Path("the dictionary"), _LABEL, site or "",
        target_site or "", subject.loaded.name,
    )  # fmt: skip
    check_entry(entry, subject, other_model=True)
    check_fit([entry], subject, fit)
    read = Read(subject=subject, fit=fit, held_out=held_out)
    rows = rows_of(read, entry, memory_mb=memory_mb, progress=progress, label="activations")
    k = active_features(entry.dictionary, rows.site)
    generator, short = torch.Generator().manual_seed(seed), short_options(entry, k, 0)
    rivals = join_rivals([
        fit_rivals(own, entry, short, generator, progress) for own in layers_of(rows, entry)
    ])  # fmt: skip
    contenders = {ITSELF: entry.dictionary, **rivals.dictionaries}
    found = measure_rows(
        subject, held_out, entry.seat, contenders, rivals.rules, memory_mb=memory_mb,
        progress=progress, label="reconstructions",
    )  # fmt: skip
    losses = substitution_losses(
        subject, held_out, entry.seat, contenders, rivals.rules, rivals.mean, memory_mb=memory_mb,
        progress=progress, label="put into the model",
    )  # fmt: skip
    return Judgement(judged=Judged(
        entry, {name: sums_by_kind(kinds) for name, kinds in found.items()},
        dict.fromkeys(contenders, losses),
        {name: shape_of(one, name) for name, one in contenders.items()},
        reads=rivals.reads, seed=seed,
    ))  # fmt: skip
