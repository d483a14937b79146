"""Send what nobody should: altered chunks to the decoder, altered JSON, bodies and files to an endpoint.

`make soak` runs it with 100,000 inputs. In this process, each altered chunk is decoded, or refused with an error of the
product's; at a real endpoint, each body and file is answered with a status below 500, in time. Neither may grow.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import psutil
import scipy.sparse as sp
import typer

import speed_inputs
from alterations import altered
from endpoint_process import served
from soak_files import fuzz_files
from soak_readers import fuzz_readers
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.errors import ServingError
from totalanvi.serving.mapped import MapOptions
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.arrow_stream import compress, decompress
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, decode_request, encode_request

MOST_GROWTH = 0.05
MOST_SECONDS = 5.0
MOST_BYTES = 2**20
WARM_SHARE = 0.3
KEPT = speed_inputs.CACHE.parent / "soak_files"
"""Folder for files that bring about what should not be."""
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 1e308, -0.5, float("nan"), float("inf")),
    *("", "\x00", "é", "😀", "x" * 1000, "NaN", [], {}, [[]], {"a": {}}, [None], {"": 0}),
)


def main(
    bundle: Annotated[
        Path | None, typer.Option(help="What is asked; the one that speed.py simulates if left out.")
    ] = None,
    inputs: Annotated[int, typer.Option(help="How many go to the decoder; 0 leaves it out.")] = 100_000,
    requests: Annotated[int, typer.Option(help="How many go to an endpoint.")] = 5_000,
    files: Annotated[int, typer.Option(help="How many altered files go to what reads uploads.")] = 2_000,
    uploads: Annotated[int, typer.Option(help="How many altered files are uploaded to an endpoint.")] = 150,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
) -> None:
    """Run both, print what came back, and fail at a crash, an answer of 500 or more, a hang or growth."""
    draw = random.Random(seed)
    bundle = speed_inputs.simulated_bundle() if bundle is None else bundle
    local = LocalReference(bundle, "cpu")
    bodies = [_chunk(local, n_cells, seed) for n_cells in (1, 3, 20)]
    if inputs:
        print(json.dumps({"decoder": _fuzz_decoder(local, bodies, inputs, draw)}, indent=2), flush=True)
    if requests:
        print(json.dumps({"endpoint": _fuzz_endpoint(bundle, local, bodies, requests, draw)}, indent=2), flush=True)
    for what, number, fuzz in (("readers", files, fuzz_readers), ("uploads", uploads, fuzz_files)):
        if number:
            # Of their own, so that either can be run alone.
            found = fuzz(bundle, local, number, KEPT / what, random.Random(seed))
            print(json.dumps({what: found}, indent=2), flush=True)
            _require(not found["wrong"], f"nothing wrong, found {len(found['wrong'])} things; see above")


def _chunk(local: LocalReference, n_cells: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    info = local.info()
    rna = sp.random(n_cells, info.n_genes, min(0.5, 50 / info.n_genes), "csr", rng=rng, dtype=np.float32)
    rna.data = np.ceil(9 * rna.data)
    rna.sort_indices()
    protein = rng.integers(0, 50, (n_cells, len(info.proteins))).astype(np.float32)
    library = np.asarray(rna.sum(axis=1), dtype=np.float32).ravel()
    cells = AlignedCells(sp.csr_matrix(rna), library, protein, np.ones(protein.shape, dtype=bool))
    return encode_request(ChunkRequest(info.features_digest, MapOptions(impute=False), cells))


def _fuzz_decoder(local: LocalReference, bodies: list[bytes], inputs: int, draw: random.Random) -> dict[str, Any]:
    info = local.info()
    outcomes: Counter[str] = Counter()
    slowest, warm = 0.0, 0
    for number in range(inputs):
        if number == int(WARM_SHARE * inputs):
            warm = psutil.Process().memory_info().rss
        body = altered(draw.choice(bodies), draw)
        started = time.perf_counter()
        try:
            if draw.random() < 0.1:
                body = decompress(altered(compress(body), draw), MOST_BYTES)
            decode_request(
                body,
                features=info.features_digest,
                n_genes=info.n_genes,
                n_proteins=len(info.proteins),
                max_cells=100,
            )
            outcomes["accepted"] += 1
        except ServingError as error:
            outcomes[type(error).__name__] += 1
        slowest = max(slowest, time.perf_counter() - started)
    growth = psutil.Process().memory_info().rss / warm - 1
    _require(slowest < MOST_SECONDS, f"each input within {MOST_SECONDS:g} s, found {slowest:.1f} s")
    _require(growth < MOST_GROWTH, f"flat memory, found that the decoder's grew by {growth:.1%}")
    return {
        "inputs": inputs,
        "outcomes": dict(outcomes),
        "slowest_seconds": round(slowest, 4),
        "growth": round(growth, 4),
    }


def _fuzz_endpoint(
    bundle: Path, local: LocalReference, bodies: list[bytes], requests: int, draw: random.Random
) -> dict[str, Any]:
    statuses: Counter[int] = Counter()
    slowest = 0.0
    with served(bundle) as endpoint, httpx.Client(base_url=endpoint.url, timeout=60, trust_env=False) as http:
        worker = endpoint.processes()[-1]
        warm = worker.memory_info().rss
        for number in range(requests):
            if number == int(WARM_SHARE * requests):
                warm = worker.memory_info().rss
            path, content, kind = _request(local, bodies, draw)
            started = time.perf_counter()
            status = http.post(path, content=content, headers={"Content-Type": kind}).status_code
            slowest = max(slowest, time.perf_counter() - started)
            statuses[status] += 1
            _require(status < httpx.codes.INTERNAL_SERVER_ERROR, f"a status below 500, found {status} for {content!r}")
        _require(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE, "a worker that lives, found it gone")
        growth = worker.memory_info().rss / warm - 1
    _require(slowest < MOST_SECONDS, f"each answer within {MOST_SECONDS:g} s, found {slowest:.1f} s")
    _require(growth < MOST_GROWTH, f"flat memory, found that the worker's grew by {growth:.1%}")
    by_status = {str(status): count for status, count in sorted(statuses.items())}
    return {
        "requests": requests,
        "statuses": by_status,
        "slowest_seconds": round(slowest, 3),
        "growth": round(growth, 4),
    }


def _request(local: LocalReference, bodies: list[bytes], draw: random.Random) -> tuple[str, bytes, str]:
    if draw.random() < 0.5:
        return "/v1/map", altered(draw.choice(bodies), draw), MEDIA_TYPE
    text = json.dumps(_query(local, draw)).encode()
    return "/v1/predict", altered(text, draw) if draw.random() < 0.3 else text, "application/json"


def _query(local: LocalReference, draw: random.Random) -> Any:
    """Return a JSON request of which some values are not what they should be."""
    genes, proteins = local.features.genes, [*local.features.proteins, "CD3"]
    query: dict[str, Any] = {
        "cells": [
            {
                "genes": {draw.choice(genes): draw.randrange(20) for _ in range(draw.randrange(8))},
                "proteins": {draw.choice(proteins): draw.randrange(50) for _ in range(draw.randrange(4))},
            }
            for _ in range(draw.randrange(1, 4))
        ],
        "options": {"samples": 1, "impute": draw.random() < 0.3},
    }
    for _ in range(draw.randrange(3)):
        _put_odd(query, draw)
    return query


def _put_odd(values: Any, draw: random.Random) -> None:
    """Replace, add or remove something, wherever a walk down the values ends."""
    while isinstance(values, (dict, list)) and values:
        key = draw.choice(list(values) if isinstance(values, dict) else range(len(values)))
        if isinstance(values[key], (dict, list)) and values[key] and draw.random() < 0.7:
            values = values[key]
            continue
        odd = draw.choice(ODD_VALUES)
        if draw.random() < 0.7:
            values[key] = odd
        elif isinstance(values, dict):
            values.pop(key) if draw.random() < 0.5 else values.update({draw.choice(("x", "", "genes", "cells")): odd})
        else:
            values.append(odd)
        return


def _require(true: bool, expected: str) -> None:
    if not true:
        sys.exit(f"Expected {expected}.")


if __name__ == "__main__":
    typer.run(main)
