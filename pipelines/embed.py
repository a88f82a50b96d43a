"""embed: panel store -> embeddings of the untrained V18 and their FAISS index, version 0."""

from __future__ import annotations

from pipelines.common import EMBEDDED, PANEL, run_stage
from vcfbert.config import Config
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import open_panels
from vcfbert.retrieval.embedded import embed_references


def main(config: Config) -> None:
    panels = open_panels(PANEL)
    seconds = embed_references(
        [ReferenceSubset(panel, panel.training_haplotypes) for panel in panels], config.model, EMBEDDED
    )
    print(f"embedded {sum(panel.n_sites for panel in panels)} sites in {seconds:.2f} s")


if __name__ == "__main__":
    run_stage(main)
