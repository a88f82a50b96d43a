"""Pre-computed embeddings as an artifact: the untrained table of every token at every site, and the index over it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from vcfbert.artifacts import atomic_folder, provenance, read_manifest
from vcfbert.config import ModelConfig
from vcfbert.constants import EMBEDDING_FORMAT
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.panel_writer import region_folder
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.variants import create
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.faiss_index import FaissKeyIndex

TABLE, INDEX = "table.safetensors", "index.faiss"


def embed_references(references: Sequence[ReferenceSubset], config: ModelConfig, out: Path) -> float:
    """Writes the initial embeddings and indexes of the reference subsets, in order, and returns the seconds it took.

    For each: ``table.safetensors`` (``table`` float16 [n_sites, tokens, dims], ``weights`` float32 [n_sites]) and
    ``index.faiss``, of the untrained V18 with the seed of ``config``.
    """
    started = time.perf_counter()
    embedding = create("v18", config).embedding
    manifest = {
        "panel_digests": [reference.panel.digest for reference in references],
        "model": dataclasses.asdict(config),
        "validation": _validation(references),  # decides which haplotypes are the index's rows
        "n_rows": [len(reference) for reference in references],
        "n_sites": [reference.panel.n_sites for reference in references],
        "provenance": provenance(),
    }
    with atomic_folder(out, kind="embedding", version=EMBEDDING_FORMAT, manifest=manifest) as folder:
        for number, reference in enumerate(references):
            place = folder / region_folder(number)
            place.mkdir()
            features = reference_features(reference, torch.device("cpu"))
            with torch.no_grad():
                table, weights = embedding.table(features).half(), embedding.allele_weights(features)
            save_file({"table": table, "weights": weights}, place / TABLE)
            FaissKeyIndex.build(reference, weights).save(place / INDEX)
    return time.perf_counter() - started


def open_indexes(path: Path, references: Sequence[ReferenceSubset]) -> list[FaissKeyIndex]:
    """The indexes of an embedding artifact, one for each of ``references``.

    Raises ArtifactError if the artifact was made of other panels or another validation split.
    """
    manifest = read_manifest(path, kind="embedding", version=EMBEDDING_FORMAT)
    if manifest["panel_digests"] != [reference.panel.digest for reference in references]:
        raise ArtifactError("embedding_panel", "was made from another panel", where=str(path), hint="run `embed` again")
    if manifest["validation"] != _validation(references):
        raise ArtifactError("embedding_split", "holds out other samples", where=str(path), hint="run `embed` again")
    return [
        FaissKeyIndex.load(path / region_folder(number) / INDEX, n_rows=len(reference), n_sites=reference.panel.n_sites)
        for number, reference in enumerate(references)
    ]


def _validation(references: Sequence[ReferenceSubset]) -> list[list[int]]:
    return [list(reference.panel.validation) for reference in references]


def open_training_indexes(path: Path, panels: Sequence[Panel]) -> list[FaissKeyIndex] | None:
    """The indexes of the panels' training splits; None on a machine with a GPU, which builds its own."""
    if torch.cuda.is_available():
        return None
    return open_indexes(path, [ReferenceSubset(panel, panel.training_haplotypes) for panel in panels])
