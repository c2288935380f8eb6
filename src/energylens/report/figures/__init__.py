"""The figures of the page, one file a question; each is absent where its table is."""

from collections.abc import Callable, Sequence

from energylens.report.figure import Figure
from energylens.report.figures import (
    ablation,
    basins,
    behaviour,
    browse,
    calibration,
    classes,
    contest,
    controls,
    conversion,
    depth,
    dictionaries,
    evaluation,
    evaluation_labels,
    evaluation_pairs,
    layers,
    models,
    own_rows,
    planted,
    planted_forces,
    scaling,
    text_classes,
    trainings,
    variants,
    volcano,
)
from energylens.report.records import Records

ORDER: Sequence[Callable[[Records], Figure | None]] = (
    volcano.figure,
    layers.figure,
    own_rows.figure,
    variants.figure,
    calibration.figure,
    classes.figure,
    contest.figure,
    behaviour.figure,
    depth.figure,
    basins.figure,
    text_classes.figure,
    controls.figure,
    dictionaries.figure,
    evaluation.quality,
    evaluation.frontier,
    evaluation.losses,
    evaluation.densities,
    evaluation_pairs.weights,
    evaluation_pairs.matches,
    evaluation_labels.probes,
    evaluation_labels.control,
    evaluation_labels.absorption,
    models.shares,
    models.sizes,
    models.matching,
    ablation.finding,
    ablation.quality,
    ablation.within,
    planted.recovery,
    planted.minima,
    planted.paths,
    planted.direction,
    planted_forces.figure,
    trainings.quality,
    trainings.curves,
    scaling.sizes,
    scaling.exponents,
    scaling.frontier,
    conversion.figure,
    browse.labels,
    browse.densities,
    browse.likeness,
)


def figures(records: Records) -> list[Figure]:
    """All figures whose tables are there, in the order of the page."""
    return [figure for make in ORDER if (figure := make(records))]
