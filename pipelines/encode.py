"""encode: panel store -> windows, retrieval windows and the distinct rows of each window."""

from __future__ import annotations

from pipelines.common import ENCODED, PANEL, run_stage
from vcfbert.config import Config
from vcfbert.genotypes.encoding import encode, save_encodings
from vcfbert.genotypes.store import open_panels


def main(config: Config) -> None:
    panels = open_panels(PANEL)
    encodings = [encode(panel, config.encode) for panel in panels]
    save_encodings(encodings, ENCODED)
    for panel, encoding in zip(panels, encodings, strict=True):
        print(
            f"{panel.region}: {len(encoding.windows)} windows; {encoding.n_distinct.mean():.0f} distinct haplotypes of "
            f"{panel.n_haplotypes} haplotypes in the average window"
        )


if __name__ == "__main__":
    run_stage(main)
