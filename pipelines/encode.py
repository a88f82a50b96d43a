"""encode: panel store -> windows, key spans and the distinct rows of each window."""

from __future__ import annotations

from pipelines.common import ENCODED, PANEL, run_stage
from vcfbert.config import Config
from vcfbert.genotypes.encoding import encode, save_encoding
from vcfbert.genotypes.store import open_panel


def main(config: Config) -> None:
    panel = open_panel(PANEL)
    encoding = encode(panel, config.encode)
    save_encoding(encoding, ENCODED)
    print(
        f"{len(encoding.windows)} windows; {encoding.n_distinct.mean():.0f} distinct rows of "
        f"{panel.n_haplotypes} haplotypes in the average window"
    )


if __name__ == "__main__":
    run_stage(main)
