"""Reads bundles. torch and FAISS are imported only for the bundle of a network."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from vcfbert.artifacts import read_manifest
from vcfbert.bundle.contents import PANEL, WEIGHTS, Bundle, Part, weights_damaged, whole_panel
from vcfbert.bundle.settings import check_settings, damaged
from vcfbert.constants import BUNDLE_FORMAT, BUNDLE_KIND, VARIANTS
from vcfbert.copying.mixture import CopyingModel
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.encoding import hmm_windows
from vcfbert.genotypes.store import open_panels, panels_digest


def load_bundle(path: Path, *, device: str = "cpu", verify: bool = True, only_imputes: bool = False) -> Bundle:
    """Reads a bundle and checks its format version, panel digest and, with ``verify``, the sha256 of every file.

    ``device``: where a network runs, as torch names it, or 'auto'. V19 runs on the CPU. ``only_imputes``: the bundle
    serves an ``Imputer`` alone, so V18 needs no torch on the CPU.

    Raises ArtifactError where a check fails or the bundle is missing, unfinished or damaged.
    """
    manifest = read_manifest(path, kind=BUNDLE_KIND, version=BUNDLE_FORMAT, verify=verify)
    check_settings(path, manifest)
    panels = open_panels(path / PANEL, verify=False)  # the bundle's manifest has their hashes
    if panels_digest(panels) != manifest["panel_digest"]:
        raise ArtifactError(
            "bundle_panel",
            f"holds panel {panels_digest(panels)[:12]} but was trained on panel {manifest['panel_digest'][:12]}",
            where=str(path),
            hint="copy the whole bundle again",
        )
    fewest = min(panel.n_haplotypes for panel in panels)
    if manifest["k"] > fewest:
        raise damaged(path, f"k is {manifest['k']}, but a panel has {fewest} haplotypes")
    if manifest["variant"] not in VARIANTS:
        raise ArtifactError(
            "bundle_variant",
            f"unknown variant {manifest['variant']}",
            where=str(path),
            hint="use the version of vcfbert that wrote it, or a newer one",
        )
    if only_imputes and manifest["variant"] == "v18":
        from vcfbert.bundle.compiled_network import load_compiled, runs_without_torch  # imports FAISS

        bundle = load_compiled(path, manifest, panels) if runs_without_torch("v18", device) else None
        if bundle is not None:
            return bundle
    if manifest["variant"] != "v19":
        from vcfbert.bundle.network import load_network  # imports torch and FAISS, which V19 does not need

        return load_network(path, manifest, panels, device=device)
    try:
        model = CopyingModel.from_arrays(load_file(path / WEIGHTS))
    except (OSError, SafetensorError, ValueError) as error:
        raise weights_damaged(path) from error
    encode = manifest["encode"]
    parts = [
        Part(whole_panel(panel), hmm_windows(panel, encode["copy_window"], encode["copy_span_cm"])) for panel in panels
    ]
    return Bundle(manifest, model, tuple(parts))
