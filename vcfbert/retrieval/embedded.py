"""Pre-encoded embeddings as an artifact: the initial table of every token at every site, and the index over them."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from vcfbert.artifacts import atomic_folder, read_manifest
from vcfbert.config import ModelConfig
from vcfbert.constants import EMBEDDING_FORMAT
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.memory import Memory
from vcfbert.model.variants import create
from vcfbert.provenance import provenance
from vcfbert.retrieval.context import memory_features
from vcfbert.retrieval.faiss_index import FaissKeyIndex

TABLE, INDEX = "table.safetensors", "index.faiss"


def embed_memory(memory: Memory, config: ModelConfig, out: Path) -> float:
    """Writes ``table.safetensors`` (``table`` float16 [n_sites, tokens, dims], ``weights`` float32 [n_sites]) and
    ``index.faiss`` of the untrained V18 with these seeds. Returns the seconds that embedding and indexing took."""
    started = time.perf_counter()
    embedding = create("v18", config).embedding
    features = memory_features(memory, torch.device("cpu"))
    with torch.no_grad():
        table, weights = embedding.table(features).half(), embedding.allele_weights(features)
    index = FaissKeyIndex.build(memory, weights)
    seconds = time.perf_counter() - started
    manifest = {
        "panel_digest": memory.panel.digest,
        "model": dataclasses.asdict(config),
        "validation": list(memory.panel.validation),  # decides which haplotypes are the index's rows
        "n_rows": len(memory),
        "n_sites": memory.panel.n_sites,
        "provenance": provenance(),
    }
    with atomic_folder(out, kind="embedding", version=EMBEDDING_FORMAT, manifest=manifest) as folder:
        save_file({"table": table, "weights": weights}, folder / TABLE)
        index.save(folder / INDEX)
    return seconds


def open_index(path: Path, memory: Memory) -> FaissKeyIndex:
    """The index of an embedding artifact, checked against the memory. Raises ArtifactError."""
    manifest = read_manifest(path, kind="embedding", version=EMBEDDING_FORMAT)
    if manifest["panel_digest"] != memory.panel.digest:
        raise ArtifactError("embedding_panel", "was made from another panel", where=str(path), hint="run `embed` again")
    if tuple(manifest["validation"]) != memory.panel.validation:
        raise ArtifactError("embedding_split", "holds out other samples", where=str(path), hint="run `embed` again")
    return FaissKeyIndex.load(path / INDEX, n_rows=len(memory), n_sites=memory.panel.n_sites)
