"""``vcfbert simulate``: simulated panels and targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.cli.console import JsonFlag, print_json, progress_bars, say


def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    haplotypes: Annotated[int, typer.Option(help="Haplotypes in the panel.")] = 2000,
    targets: Annotated[int, typer.Option(help="Target samples. The panel does not contain them.")] = 100,
    length_mb: Annotated[float, typer.Option(help="Length of the region in Mb.")] = 3.0,
    populations: Annotated[int, typer.Option(help="Number of populations, in the order EUR, AFR, EAS, AMR.")] = 3,
    typed_per_mb: Annotated[float, typer.Option(help="Typed sites per Mb.")] = 165.0,
    seed: Annotated[int, typer.Option(help="Seed. The same seed gives the same files.")] = 17,
    threads: Annotated[int, typer.Option(help="Compression threads.", min=1)] = 2,
    as_json: JsonFlag = False,
) -> None:
    """Simulate a panel, targets and a genetic map for benchmarks. Requires the extra `simulate`.

    The haplotypes come from a coalescent simulation of human populations.

    **Example**

    vcfbert simulate --haplotypes 2000 --targets 100 --length-mb 3 --populations 3 --out data/work/simulated
    """
    from vcfbert.datasets.simulate import Simulation
    from vcfbert.datasets.simulate import simulate as simulate_files

    simulation = Simulation(haplotypes, targets, length_mb, populations, typed_per_mb, seed)
    with progress_bars("sites") as add_bar:
        bar = add_bar("writing")
        figures = simulate_files(simulation, out, threads=threads, begin=bar.begin, progress=bar.advance)
    if as_json:
        print_json({"out": str(out), **figures})
    else:
        say(
            f"{out}: {haplotypes} haplotypes and {targets} targets, {figures['sites']} sites, "
            f"{figures['typed_sites']} of them typed, {figures['centimorgans']:.3f} cM"
        )
