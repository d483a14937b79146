"""Keep an endpoint under load for as long as asked: every answer right, no error but 429, memory and latency flat.

`make soak` runs it for ten minutes with 64 clients; `--minutes 60 --load 0.7` is the hour at 70 % load. Clients are
threads with connections of their own, which send chunks of mixed sizes one after the other, and come back after a
moment when they are told that the endpoint is busy. Expected answers are those of the same bundle in this process.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import psutil
import scipy.sparse as sp
import typer

import results
import speed_inputs
from endpoint_process import Served, served
from soak_seen import Seen
from totalanvi.serving.cells import AlignedCells
from totalanvi.serving.mapped import MapOptions, MappedCells
from totalanvi.serving.mapping.local import LocalReference
from totalanvi.serving.wire.chunks import MEDIA_TYPE, ChunkRequest, decode_response, encode_request

SIZES = (1, 2, 7, 8, 9, 30, 64, 65, 100, 100, 300, 512, 1000, 2048)
OPTIONS = (MapOptions(impute=False), MapOptions(impute=False, coverage=0.7), MapOptions(samples=2))
TOLERANCE = 1e-4
"""Blocks may be cut elsewhere here and there, which moves the last bits of single precision."""
PROBE_SECONDS = 1.0


def main(
    bundle: Annotated[
        Path | None, typer.Option(help="What to serve; the one that speed.py simulates if left out.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long.")] = 10,
    clients: Annotated[int, typer.Option(help="Threads that ask, each with a connection of its own.", min=1)] = 64,
    load: Annotated[float, typer.Option(help="Share of the time that a client asks; it pauses for the rest.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of cells and pauses.")] = 0,
    record: Annotated[str | None, typer.Option(help="Write benchmarks/results/NAME.json.", metavar="NAME")] = None,
) -> None:
    """Run, print the figures, and fail where one is not as promised."""
    rng = np.random.default_rng(seed)
    bundle = speed_inputs.simulated_bundle() if bundle is None else bundle
    local = LocalReference(bundle, "cpu")
    work = [_Work.draw(local, n_cells, options, rng) for options in OPTIONS for n_cells in SIZES]
    with served(bundle) as endpoint:
        seen = Seen()
        stop = threading.Event()
        asking = [
            threading.Thread(target=_ask, args=(endpoint.url, work, seen, stop, load, seed + number))
            for number in range(clients)
        ]
        watching = [threading.Thread(target=watch, args=(endpoint, seen, stop)) for watch in (_watch_memory, _probe)]
        for thread in (*asking, *watching):
            thread.start()
        stop.wait(60 * minutes)
        stop.set()
        for thread in (*asking, *watching):
            thread.join()
    figures = seen.figures(minutes) | {"clients": clients, "load": load, "machine": results.machine()}
    print(json.dumps(figures, indent=2))
    if record is not None:
        (results.RESULTS / f"{record}.json").write_text(json.dumps(figures, indent=2) + "\n")
    if problems := seen.problems():
        sys.exit("\n".join(problems))


@dataclass(frozen=True, eq=False)
class _Work:
    """A chunk, and what is to come back."""

    body: bytes
    expected: MappedCells
    local: LocalReference

    @classmethod
    def draw(cls, local: LocalReference, n_cells: int, options: MapOptions, rng: np.random.Generator) -> _Work:
        """Draw cells: a few counts each of random genes, proteins in three quarters of them."""
        manifest = local.bundle.manifest
        n_genes, n_proteins = len(manifest.genes.names), len(manifest.proteins)
        density = min(0.5, 300 / n_genes)
        rna = sp.random(n_cells, n_genes, density, "csr", rng=rng, data_rvs=lambda n: rng.integers(1, 20, n))
        rna = sp.csr_matrix(rna, dtype=np.float32)
        rna.sort_indices()
        measured = np.repeat(rng.random(n_cells) < 0.75, n_proteins).reshape(n_cells, n_proteins)
        protein = np.where(measured, rng.integers(0, 200, (n_cells, n_proteins)), 0).astype(np.float32)
        library = np.asarray(rna.sum(axis=1), dtype=np.float32).ravel() + 1
        cells = AlignedCells(rna, library, protein, measured)
        body = encode_request(ChunkRequest(local.info().features_digest, options, cells))
        return cls(body, local.score(cells, options), local)

    def problem(self, content: bytes) -> str | None:
        """Say what of an answer is not as expected."""
        info, expected = self.local.info(), self.expected.arrays()
        found = decode_response(
            content,
            n_cells=len(self.expected),
            n_labels=len(info.labels),
            n_names=len({*info.labels, *info.parents.values()}),
            n_latent=info.n_latent,
            n_proteins=None if self.expected.protein is None else len(info.proteins),
        ).mapped.arrays()
        for name, array in expected.items():
            if array.dtype.kind == "f":
                same = np.allclose(found[name], array, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
            else:
                same = bool(np.mean(found[name] == array) > 1 - 1e-3)
            if not same:
                return f"{name} of {len(self.expected)} cells is not what it is in process"
        return None


def _ask(url: str, work: list[_Work], seen: Seen, stop: threading.Event, load: float, seed: int) -> None:
    draw = random.Random(seed)
    headers = {"Content-Type": MEDIA_TYPE}
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as http:
        while not stop.is_set():
            each = draw.choice(work)
            started = time.monotonic()
            try:
                answer = http.post("/v1/map", content=each.body, headers=headers)
                status, problem = str(answer.status_code), None
                if answer.status_code == httpx.codes.OK:
                    problem = each.problem(answer.content)
            except Exception as error:
                status, problem = type(error).__name__, None
            taken = time.monotonic() - started
            with seen.lock:
                seen.statuses[status] += 1
                if problem is not None:
                    seen.wrong.append(problem)
                elif status == "200":
                    seen.cells += len(each.expected)
                    seen.seconds.append((seen.now, taken))
            stop.wait(draw.uniform(0.2, 1.5) if status != "200" else taken * (1 - load) / load)


def _watch_memory(endpoint: Served, seen: Seen, stop: threading.Event) -> None:
    while not stop.wait(PROBE_SECONDS):
        # Processes of passing requests may be gone meanwhile.
        resident = 0
        for process in endpoint.processes():
            try:
                resident += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        seen.memory.append((seen.now, resident))


def _probe(endpoint: Served, seen: Seen, stop: threading.Event) -> None:
    with httpx.Client(base_url=endpoint.url, timeout=60, trust_env=False) as http:
        while not stop.wait(PROBE_SECONDS):
            for path in ("/livez", "/metrics"):
                started = time.monotonic()
                status = http.get(path).status_code
                seen.probes.append(time.monotonic() - started)
                if status != httpx.codes.OK:
                    with seen.lock:
                        seen.statuses[f"{path} {status}"] += 1


if __name__ == "__main__":
    typer.run(main)
