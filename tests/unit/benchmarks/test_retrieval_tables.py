"""What the study of retrieval makes of its cells (benchmarks/retrieval_tables.py), by hand."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import retrieval_tables as tables


def trained(every: int, seed: int, r2: float, seconds: list[float], refreshes: dict[int, float]) -> dict[str, Any]:
    curve: list[dict[str, float]] = [{"epoch_seconds": s, "val/r2/all": r2 / (4 - e)} for e, s in enumerate(seconds)]
    for epoch, cost in refreshes.items():
        curve[epoch] |= {"refresh/seconds": cost, "refresh/overlap": 0.75}
    cell = {"part": "refresh", "network": "v18", "retriever": "embedding", "k": 64, "refresh_every": every}
    return {**cell, "seed": seed, "r2": {"1-5": r2 / 2, "all": r2}, "curve": curve}


def scored(network: str, retriever: str, k: int, r2: float, part: str = "retriever", seed: int = 17) -> dict[str, Any]:
    cell = {"part": part, "network": network, "retriever": retriever, "k": k, "refresh_every": 1, "seed": seed}
    return {**cell, "r2": {"1-5": r2 / 2, "all": r2}, "curve": []}


# Epochs take 10 s by the median; what one of them was held up by counts nothing.
REFRESH = [
    trained(0, 17, 0.80, [10.0, 10.0, 10.0], {}),
    trained(0, 18, 0.84, [10.0, 90.0, 10.0], {}),
    trained(1, 17, 0.82, [10.0, 10.5, 10.5], {1: 0.5, 2: 0.5}),
    trained(1, 18, 0.83, [10.0, 10.5, 10.5], {1: 0.5, 2: 0.5}),
]
RETRIEVED = [
    scored("copying", "hamming", 540, 0.9, "all"),
    scored("copying", "none", 0, 0.3),
    scored("copying", "hamming", 16, 0.6),
    scored("copying", "random", 16, 0.4, seed=17),
    scored("copying", "random", 16, 0.5, seed=18),
    scored("v18", "runs", 16, 0.7),
]


def test_refreshes_are_compared_at_equal_seconds() -> None:
    lines = tables.refresh_table(REFRESH).splitlines()
    assert lines[2] == "| never | 0 | 0.000 | 30.0 | 0.000% |  | 0.4100 | 0.8200 | -0.0050 (-0.0200 to +0.0100) |"
    assert lines[3] == "| every epoch | 2 | 1.000 | 31.0 | 3.226% | 75% | 0.4125 | 0.8250 |  |"
    assert tables.mean_curve([cell["curve"] for cell in REFRESH[2:]], 10.0) == [
        (10.0, pytest.approx(0.825 / 4)),
        (20.5, pytest.approx(0.825 / 3)),
        (31.0, pytest.approx(0.825 / 2)),
    ]


def test_retrievers_stand_side_by_side_at_equal_k() -> None:
    lines = tables.retriever_table(RETRIEVED, "all").splitlines()
    assert lines[0] == "| r² all | none | random | Hamming | embeddings | IBS segments | whole panel |"
    assert lines[2] == "| Li-Stephens HMMs, unfitted, K = 16 | 0.3000 | 0.4500 ± 0.0500 | 0.6000 |  |  | 0.9000 |"
    assert lines[3] == "| V18's network, K = 16 |  |  |  |  | 0.7000 |  |"


def test_the_figure_has_a_panel_for_what_is_there() -> None:
    one, two, three = tables.retrieval_figure({"cells": [*REFRESH, *RETRIEVED]}).axes
    assert {text.get_text() for text in one.texts} == {"never", "every 1"}
    assert {text.get_text() for text in two.texts} == {"random", "Hamming", "none", "whole panel"}
    assert {text.get_text() for text in three.texts} == {"IBS segments"}
    assert len(tables.retrieval_figure({"cells": REFRESH}).axes) == 1
