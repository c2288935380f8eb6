"""The study from end to end; every step is a part that a killed run does not do again."""

from collections.abc import Callable

import torch

from energylens.core.ports import Progress, Store
from energylens.results.record import Summary
from energylens.studies.browse_dictionary import BrowseDictionary
from energylens.studies.browse_dictionary.finding import summarise
from energylens.studies.browse_dictionary.material import gather
from energylens.studies.browse_dictionary.measures import directions, label, pairs, record
from energylens.studies.browse_dictionary.reading import read
from energylens.studies.browse_dictionary.tables import all_tables


def run(
    options: BrowseDictionary, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Read text once and keep what there is to see of every feature."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    material = gather(options, store, say)
    reading = read(material, options, store, progress)
    labels = label(material, reading, options, store, progress)
    together = pairs(material, reading, options, store)
    found = directions(material, reading, options, store, progress)
    whole = record(material, reading, labels, together, found)
    tables = all_tables(material, reading, labels, together, found, whole)
    store.save("tables", tables=tables)
    return summarise(material, options, whole, tables)
