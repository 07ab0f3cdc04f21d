"""Powers of the width."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from whichmin import linear
from whichmin.errors import ModelError
from whichmin.linear import sweep as width_sweep


@pytest.fixture(scope="module")
def sweep():
    X, Y = linear.example(5, 12, 2)
    return linear.width_sweep((100, 400, 1600, 6400), (0.3, 0.35, 0.4, 0.5), 8, X=X, Y=Y)


def test_the_end_distance_and_the_invariant_distance_fall_as_the_theory_says(sweep):
    for quantity in ("solution_distances", "invariant_distances"):
        for fit in sweep.fits(quantity):
            assert fit.expected == pytest.approx(0.5 - 2 * fit.exponent)
            assert fit.slope == pytest.approx(fit.expected, abs=0.06)
            assert fit.standard_error < 0.04


def test_the_level_of_imbalance_grows_as_the_theory_says_up_to_the_edge_of_the_spectrum(sweep):
    h = sweep.widths
    edge = (1 - (5 / h).sqrt()) ** 2 + (1 - (2 / h).sqrt()) ** 2
    for i, a in enumerate(sweep.exponents.tolist()):
        scaled = sweep.levels[i].mean(1) / edge / h ** (1 - 2 * a)
        assert float(scaled.min()) > 0.97
        assert float(scaled.max()) < 1.2
        assert float(scaled[-1]) < 1.03
        assert sweep.fits("levels")[i].expected == pytest.approx(1 - 2 * a)


def test_bounds_hold_and_flows_are_followed_to_their_end(sweep):
    assert (sweep.solution_distances <= sweep.tight_bounds * (1 + 1e-6)).all()
    assert (sweep.tight_bounds <= sweep.bounds).all()
    assert float(sweep.remaining.max()) < 1e-10


def test_outside_the_theory_nothing_is_expected():
    X, Y = linear.example(3, 6, 1)
    for fit in linear.width_sweep((10, 20), (0.2, 0.25, 0.6), [3], X=X, Y=Y).fits():
        assert np.isnan(fit.expected)
        assert np.isnan(fit.standard_error)


def test_the_fit_is_least_squares_of_the_logarithms(sweep):
    x, fit = np.log(sweep.widths.numpy()), sweep.fits("levels")[1]
    y = np.log(sweep.levels[1].numpy())
    slope, level = np.polyfit(x, y.mean(1), 1)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    error = np.sqrt((weights**2 * y.var(axis=1, ddof=1) / 8).sum())
    found = (fit.exponent, fit.slope, fit.prefactor, fit.standard_error)
    assert found == pytest.approx((0.35, slope, np.exp(level), error), rel=1e-9)


def test_the_least_width_is_that_of_the_theorem_and_every_flow_has_its_own_draw(monkeypatch):
    seeds, draw = [], width_sweep.initialize

    def initialize(*sizes, seed, **settings):
        seeds.append(seed)
        return draw(*sizes, seed=seed, **settings)

    monkeypatch.setattr(width_sweep, "initialize", initialize)
    X, Y = linear.example(3, 6, 2)
    linear.width_sweep((15, 20), (0.4, 0.5), [3, 8], X=X, Y=Y)
    assert len(set(seeds)) == 8
    linear.width_sweep((4, 15), (0.5,), [3], X=X, Y=Y)
    with pytest.raises(ModelError, match=r"width 3 is below rank\(X\) \+ m − 1 = 4"):
        linear.width_sweep((3, 20), (0.5,), 1, X=X, Y=Y)


def test_saved_and_loaded_and_in_a_frame(sweep, tmp_path):
    sweep.save(tmp_path / "sweep")
    again = linear.WidthSweep.load(tmp_path / "sweep")
    assert torch.equal(again.solution_distances, sweep.solution_distances)
    frame = sweep.to_frame()
    assert len(frame) == 4 * 4 * 8
    row = frame[(frame.exponent == 0.35) & (frame.width == 400) & (frame.seed == 2)]
    assert float(row.solution_distances.iloc[0]) == float(sweep.solution_distances[1, 1, 2])


def test_an_executor_gives_the_same():
    X, Y = linear.example(3, 6, 1)
    here = linear.width_sweep((10, 20), (0.5,), 2, X=X, Y=Y)
    with ThreadPoolExecutor(2) as executor:
        there = linear.width_sweep((10, 20), (0.5,), 2, X=X, Y=Y, executor=executor)
    assert torch.equal(here.solution_distances, there.solution_distances)
