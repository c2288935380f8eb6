import torch

from energylens.stats.shifts import CORRELATIONS, coloured, fit, orthonormal, prepare, whitened
from energylens.stats.templates import ramps, sigmoids
from tests.common.compare import assert_close
from tests.oracles import shifts as oracle

SAMPLES = 40


def _world(generator):
    """Two series, one with a step, in correlated noise of changing size, and two columns."""
    time = torch.linspace(0, 1, SAMPLES, dtype=torch.float64)
    scale = torch.stack([2 - time, 1 + time])
    new = torch.randn(2, SAMPLES, generator=generator, dtype=torch.float64)
    values = coloured(new, torch.tensor([0.5, 0.8], dtype=torch.float64), scale)
    values[0, 22:] += 6
    columns = torch.stack([torch.ones_like(time), time], 1).expand(2, -1, -1)
    return values, columns, scale


def test_what_is_coloured_is_whitened_again(generator):
    new = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    scale = torch.rand(3, 50, generator=generator, dtype=torch.float64) + 0.1
    phi = torch.tensor([0.0, 0.4, 0.99], dtype=torch.float64)
    assert_close(whitened(coloured(new, phi, scale), phi, scale), new, rtol=1e-8, atol=1e-8)


def test_colour_has_the_covariance_it_should(generator):
    scale = torch.linspace(1, 3, 12, dtype=torch.float64)[None]
    unit = coloured(
        torch.eye(12, dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64), scale
    )
    assert_close(unit.T @ unit, oracle.covariance(0.7, scale[0].numpy()), rtol=1e-9)


def test_gains_are_those_of_generalised_least_squares(generator):
    values, columns, scale = _world(generator)
    for templates in (ramps(SAMPLES, (1, 4), margin=4), sigmoids(SAMPLES, (0.0, 6.0), margin=4)):
        scan = prepare(columns, scale, templates)
        found = scan.gains(values)
        for row in range(2):
            expected = oracle.gain(
                values[row].numpy(), columns[row].numpy(), scale[row].numpy(),
                templates.shapes.numpy(), CORRELATIONS,
            )  # fmt: skip
            kept = (scan.own[:, row] > 0).all(0).numpy()  # others are no course of their own
            assert kept.mean() > 0.9
            assert_close(found[row].numpy()[kept], expected[kept], rtol=1e-3, atol=1e-3)
        assert_close(scan.gain(values[:, None])[:, 0], found.amax(1), rtol=1e-9)


def test_the_columns_weights_do_not_matter(generator):
    values, columns, scale = _world(generator)
    scan = prepare(columns, scale, ramps(SAMPLES, (1, 4), margin=4))
    moved = values + 50 - 90 * columns[..., 1]
    assert_close(scan.gains(moved), scan.gains(values), rtol=1e-6, atol=1e-6)


def test_a_fit_has_the_oracles_likelihood_and_ignores_empty_columns(generator):
    values, columns, scale = _world(generator)
    found = fit(values, columns, scale)
    more = fit(values, torch.cat([columns, torch.zeros_like(columns)], 2), scale)
    assert_close(found.likelihood, more.likelihood)
    assert_close(more.weights[:, 2:], torch.zeros(2, 2))
    for row in range(2):
        expected = max(
            oracle.likelihood(values[row].numpy(), columns[row].numpy(), scale[row].numpy(), phi)
            for phi in CORRELATIONS
        )
        assert_close(found.likelihood[row], expected, rtol=1e-8)


def test_columns_that_are_nearly_alike_become_orthonormal(generator):
    x = torch.randn(1, 30, 1, generator=generator, dtype=torch.float64)
    alike = torch.cat([x, x + 1e-5 * torch.randn_like(x), torch.zeros_like(x)], 2)
    q = orthonormal(alike)[0]
    assert_close(q.T @ q, torch.diag(torch.tensor([1.0, 1.0, 0.0])), atol=1e-8)


def test_a_column_that_others_make_up_changes_nothing(generator):
    values, columns, scale = _world(generator)
    twice = torch.cat([columns, columns.sum(2, keepdim=True)], 2)
    found = fit(values, twice, scale)
    assert_close(found.likelihood, fit(values, columns, scale).likelihood, rtol=1e-6)
