"""Make `mlip/tensor_products/cp_factors/`: decompositions of the fused coupling tensor.

For degrees (l1 ≤ l2 ≤ l3 ≤ l1 + l2), l3 ≤ 4, and for the couplings of an even sum and for all of
them: one of exact rank, and one of rank 7 L² (L = l3) where that is less. Other orders of the
degrees follow from these by symmetry, and what is left out is cut from l1 = l2 = l3. The exact
ranks below are the smallest ones at which this fit was seen to reach rounding from one of a few
seeds; smaller ones may exist.

Each file holds the factors `first`, `second`, `third` in float64 and says in its metadata: degrees,
paths, rank, seed, relative residual, largest column norm, and the sha256 of the factors.

    OMP_NUM_THREADS=1 python scripts/make_cp_factors.py --highest 2

Seconds up to degree 2, a minute up to 3, some minutes up to 4. Existing files are kept unless
`--renew` is given.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Literal, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from safetensors.numpy import save_file

from mlip.tensor_products.cp import factor_file, paper_rank
from mlip.tensor_products.cp_decomposition import EXACT, best_fit
from mlip.tensor_products.fused import FusedPaths, fused_tensor

EXACT_RANKS: dict[FusedPaths, dict[tuple[int, int, int], int]] = {
    "even": {
        (1, 1, 1): 6,
        (1, 1, 2): 9,
        (1, 2, 2): 13,
        (1, 2, 3): 17,
        (1, 3, 3): 25,
        (1, 3, 4): 32,
        (2, 2, 2): 18,
        (2, 2, 3): 28,
        (2, 2, 4): 34,
        (2, 3, 3): 48,
        (2, 3, 4): 58,
        (2, 4, 4): 92,
        (3, 3, 3): 56,
        (3, 3, 4): 78,
        (3, 4, 4): 140,
        (4, 4, 4): 150,
    },
    "all": {
        (1, 1, 1): 8,
        (1, 1, 2): 12,
        (1, 2, 2): 17,
        (1, 2, 3): 23,
        (1, 3, 3): 31,
        (1, 3, 4): 39,
        (1, 4, 4): 49,
        (2, 2, 2): 30,
        (2, 2, 3): 41,
        (2, 2, 4): 51,
        (2, 3, 3): 60,
        (2, 3, 4): 76,
        (2, 4, 4): 100,
        (3, 3, 3): 91,
        (3, 3, 4): 119,
        (3, 4, 4): 161,
        (4, 4, 4): 240,
    },
}
SEEDS = {"exact": range(12), "paper": range(6)}


class Entry(NamedTuple):
    """One decomposition to make."""

    paths: FusedPaths
    degrees: tuple[int, int, int]
    kind: Literal["exact", "paper"]
    rank: int


def entries(highest: int) -> list[Entry]:
    found = []
    for paths, ranks in EXACT_RANKS.items():
        for degrees, rank in ranks.items():
            if degrees[-1] > highest:
                continue
            found.append(Entry(paths, degrees, "exact", rank))
            if paper_rank(degrees[-1]) < rank:
                found.append(Entry(paths, degrees, "paper", paper_rank(degrees[-1])))
    return found


def make(entry: Entry) -> str:
    tensor = fused_tensor(*entry.degrees, entry.paths)
    factors, seed = best_fit(tensor, entry.rank, SEEDS[entry.kind])
    residual, norm = factors.residual(tensor), factors.largest_column_norm
    if entry.kind == "exact" and residual > EXACT:
        raise SystemExit(f"{entry}: the least residual is {residual:.1e}; give it a higher rank")
    metadata = {
        "degrees": " ".join(map(str, entry.degrees)),
        "paths": entry.paths,
        "rank": str(entry.rank),
        "seed": str(seed),
        "relative_residual": f"{residual:.3e}",
        "largest_column_norm": f"{norm:.3f}",
        "sha256": factors.sha256(),
    }
    path = factor_file(entry.degrees, entry.paths, entry.kind)
    path.parent.mkdir(exist_ok=True)
    save_file(factors._asdict(), path, metadata)
    path.chmod(0o644)
    return f"seed {seed:2d}  residual {residual:.1e}  largest column norm {norm:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the constants of the decomposed product.")
    parser.add_argument("--highest", type=int, default=4, help="highest degree")
    parser.add_argument("--renew", action="store_true", help="make existing files again")
    options = parser.parse_args()
    for entry in entries(options.highest):
        if not options.renew and factor_file(entry.degrees, entry.paths, entry.kind).exists():
            continue
        start = time.perf_counter()
        result = make(entry)
        name = f"{entry.paths:4s} {entry.degrees} {entry.kind} rank {entry.rank:3d}"
        print(f"{name}  {result}  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
