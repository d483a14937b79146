"""Memory of results: their own size and that of a mini-batch, however many draws are averaged.

Each question is asked in a process of its own, first with one draw and then with many: what the second asking adds to
the most memory that the process ever held is compared with what all draws together would take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

N_CELLS, N_GENES, MANY = 5_000, 300, 6
ALL_DRAWS = N_CELLS * N_GENES * MANY * 4
"""Bytes of every draw of the genes, 36 MB."""

SCRIPT = f"""
import json, os, resource, sys
import numpy as np, torch
from tests.support.reference_cells import draw_cells
from totalanvi.training.network.anvae import TotalANVAE
from totalanvi.training.network.config import ModelConfig
from totalanvi.training.network.dimensions import Dimensions
from totalanvi.training.results.correlation import CorrelationOptions, feature_correlation
from totalanvi.training.results.expression import ExpressionOptions, normalized_expression
from totalanvi.training.results.marginal import marginal_log_likelihood
from totalanvi.training.results.parameters import likelihood_parameters
from totalanvi.training.results.predictive import posterior_predictive

torch.set_num_threads(1)
cells = draw_cells({N_CELLS}, {N_GENES}, 4, 2)
model = TotalANVAE(Dimensions({N_GENES}, 4, 2, 2, n_labels=3), ModelConfig(n_latent=3, n_hidden=8))
genes, proteins = np.arange({N_GENES}), np.arange(4)

def correlation(n, by_rank):
    options = CorrelationOptions(n, 1000.0, (None,), by_rank, log_transform=False)
    return feature_correlation(model, cells, options, batch_size=256)

questions = {{
    "expression": lambda n: normalized_expression(model, cells, ExpressionOptions(genes, proteins, n_samples=n), 256),
    "marginal": lambda n: marginal_log_likelihood(model, cells, n, 256),
    "parameters": lambda n: likelihood_parameters(model, cells, n, give_mean=True, batch_size=256),
    "pearson": lambda n: correlation(n, by_rank=False),
    "spearman": lambda n: correlation(n, by_rank=True),
    "predictive": lambda n: posterior_predictive(model, cells, genes, proteins, n, 256),
}}

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

for name, question in questions.items():
    child = os.fork()
    if child == 0:
        question(1)
        before = most()
        question({MANY})
        print(json.dumps({{name: most() - before}}), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def growth() -> dict[str, int]:
    """Bytes that many draws need beyond one, by question."""
    if not hasattr(os, "fork"):
        pytest.skip("measured in forked processes")
    path = os.pathsep.join([str(Path(__file__).resolve().parents[3]), *sys.path])
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: size for line in answer.stdout.splitlines() for name, size in json.loads(line).items()}


@pytest.mark.parametrize("question", ["expression", "marginal", "parameters", "pearson", "spearman"])
def test_more_draws_need_no_more_memory(question: str, growth: dict[str, int]) -> None:
    assert growth[question] < 0.4 * ALL_DRAWS


def test_draws_that_are_kept_need_their_own_memory_alone(growth: dict[str, int]) -> None:
    """The measure sees what is held: draws that are the result, and no second copy of them."""
    assert 0.6 * ALL_DRAWS < growth["predictive"] < 1.3 * ALL_DRAWS
