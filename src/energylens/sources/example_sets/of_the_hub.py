"""Sets of examples on the Hugging Face hub: read where it can be reached."""

from energylens.sources.examples import Examples, example_set
from energylens.sources.hub_examples import hub_examples
from energylens.sources.hub_text import HubText


@example_set(name="fashion-mnist", about="pieces of clothing, 28 × 28 pixels", bundled=False)
def fashion_mnist() -> Examples:
    """The first 10,000 for training of Xiao, Rasul and Vollgraf 2017."""
    dataset = HubText(name="zalando-datasets/fashion_mnist")
    return hub_examples(dataset, name="fashion-mnist", given="image", label="label")


@example_set(name="cifar10", about="photographs of ten things, 32 × 32 pixels", bundled=False)
def cifar10() -> Examples:
    """The first 10,000 for training of Krizhevsky 2009."""
    dataset = HubText(name="uoft-cs/cifar10")
    return hub_examples(dataset, name="cifar10", given="img", label="label")


@example_set(name="ag-news", about="news by section, four classes", bundled=False)
def ag_news() -> Examples:
    """The first 64 words of the first 10,000 for training of Zhang, Zhao and LeCun 2015."""
    dataset = HubText(name="fancyzhx/ag_news")
    return hub_examples(dataset, name="ag-news", given="text", label="label")
