"""Coefficients of the negative binomial from a table, against gamma functions."""

from __future__ import annotations

import torch

from totalanvi.training.network.rising import log_coefficient, log_coefficient_and_slope, slope_of_log_coefficient


def test_small_large_and_fractional_counts() -> None:
    theta = torch.tensor([1e-3, 0.7, 30.0, 1e4], dtype=torch.float64)
    counts = torch.tensor([0.0, 1.0, 7.0, 8.0, 9.0, 500.0, 2.5], dtype=torch.float64)
    counts, columns = counts.repeat_interleave(4), torch.arange(4).repeat(7)
    values = torch.lgamma(counts + theta[columns]) - torch.lgamma(theta[columns]) - torch.lgamma(counts + 1.0)
    slopes = torch.digamma(counts + theta[columns]) - torch.digamma(theta[columns])
    assert torch.allclose(log_coefficient(counts, theta, columns), values, rtol=1e-9, atol=1e-9)
    assert torch.allclose(slope_of_log_coefficient(counts, theta, columns), slopes, rtol=1e-9, atol=1e-9)
    both = log_coefficient_and_slope(counts, theta, columns)
    assert torch.equal(both[0], log_coefficient(counts, theta, columns))
    assert torch.equal(both[1], slope_of_log_coefficient(counts, theta, columns))
