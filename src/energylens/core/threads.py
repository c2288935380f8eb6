"""How many threads numpy and scipy take, which do not ask torch."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, products and decompositions of numpy and scipy take one thread each.

    For many small ones: their threads spin while they wait for one another, so that FastICA of 128
    components took forty times as long on two cores as on one where something else ran beside.
    """
    import scipy.linalg  # noqa: F401  # what is loaded later has its own number of threads
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
