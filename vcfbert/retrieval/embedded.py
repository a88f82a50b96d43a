"""Pre-encoded embeddings as an artifact: the initial table of every token at every site, and the index over them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from vcfbert.artifacts import atomic_folder, read_manifest
from vcfbert.config import ModelConfig
from vcfbert.constants import EMBEDDING_FORMAT
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.panel_writer import region_folder
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.variants import create
from vcfbert.provenance import provenance
from vcfbert.retrieval.context import memory_features
from vcfbert.retrieval.faiss_index import FaissKeyIndex

TABLE, INDEX = "table.safetensors", "index.faiss"


def embed_memories(memories: Sequence[ReferenceSubset], config: ModelConfig, out: Path) -> float:
    """Writes for each memory, in order, ``table.safetensors`` (``table`` float16 [n_sites, tokens, dims], ``weights``
    float32 [n_sites]) and ``index.faiss`` of the untrained V18 with these seeds. Returns the seconds that it took."""
    started = time.perf_counter()
    embedding = create("v18", config).embedding
    manifest = {
        "panel_digests": [memory.panel.digest for memory in memories],
        "model": dataclasses.asdict(config),
        "validation": _validation(memories),  # decides which haplotypes are the index's rows
        "n_rows": [len(memory) for memory in memories],
        "n_sites": [memory.panel.n_sites for memory in memories],
        "provenance": provenance(),
    }
    with atomic_folder(out, kind="embedding", version=EMBEDDING_FORMAT, manifest=manifest) as folder:
        for number, memory in enumerate(memories):
            place = folder / region_folder(number)
            place.mkdir()
            features = memory_features(memory, torch.device("cpu"))
            with torch.no_grad():
                table, weights = embedding.table(features).half(), embedding.allele_weights(features)
            save_file({"table": table, "weights": weights}, place / TABLE)
            FaissKeyIndex.build(memory, weights).save(place / INDEX)
    return time.perf_counter() - started


def open_indexes(path: Path, memories: Sequence[ReferenceSubset]) -> list[FaissKeyIndex]:
    """The indexes of an embedding artifact, checked against the memories. Raises ArtifactError."""
    manifest = read_manifest(path, kind="embedding", version=EMBEDDING_FORMAT)
    if manifest["panel_digests"] != [memory.panel.digest for memory in memories]:
        raise ArtifactError("embedding_panel", "was made from another panel", where=str(path), hint="run `embed` again")
    if manifest["validation"] != _validation(memories):
        raise ArtifactError("embedding_split", "holds out other samples", where=str(path), hint="run `embed` again")
    return [
        FaissKeyIndex.load(path / region_folder(number) / INDEX, n_rows=len(memory), n_sites=memory.panel.n_sites)
        for number, memory in enumerate(memories)
    ]


def _validation(memories: Sequence[ReferenceSubset]) -> list[list[int]]:
    return [list(memory.panel.validation) for memory in memories]
