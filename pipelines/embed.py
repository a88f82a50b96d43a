"""embed: panel store -> the pre-encoded embeddings of the untrained V18 and their FAISS index, version 0."""

from __future__ import annotations

from pipelines.common import EMBEDDED, PANEL, run_stage
from vcfbert.config import Config
from vcfbert.genotypes.memory import Memory
from vcfbert.genotypes.store import open_panel
from vcfbert.retrieval.embedded import embed_memory


def main(config: Config) -> None:
    panel = open_panel(PANEL)
    seconds = embed_memory(Memory(panel, panel.memory_haplotypes), config.model, EMBEDDED)
    print(f"embedded {panel.n_sites} sites x {len(panel.memory_haplotypes)} haplotypes in {seconds:.2f} s")


if __name__ == "__main__":
    run_stage(main)
