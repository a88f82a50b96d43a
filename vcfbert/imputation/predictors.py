"""Finds the predictor of a bundle's model. torch is imported only for a network."""

from __future__ import annotations

from vcfbert.bundle.contents import Bundle
from vcfbert.copying.mixture import CopyingModel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.imputation import hmm_predictor
from vcfbert.imputation.window_prediction import HeldOutPredictor, PredictorOptions, WindowPredictor


def predictor_of(bundle: Bundle, options: PredictorOptions) -> WindowPredictor:
    """The predictor of the bundle's windows."""
    if isinstance(bundle.model, CopyingModel):
        return hmm_predictor.HmmPredictor(bundle, bundle.model, options)
    from vcfbert.bundle.compiled_network import CompiledNetwork

    if isinstance(bundle.model, CompiledNetwork):
        from vcfbert.imputation.v18_predictor import V18Predictor

        return V18Predictor(bundle, bundle.model, options)
    from vcfbert.imputation.network_predictor import NetworkPredictor

    return NetworkPredictor(bundle, options)


def held_out_predictor_of(
    bundle: Bundle, subset: ReferenceSubset, *, batch_size: int, threads: int
) -> HeldOutPredictor:
    """The bundle's model as a predictor of the panel's own haplotypes, which retrieves from ``subset``."""
    k = min(bundle.k, len(subset) - 2)  # a query never retrieves the two haplotypes of its own sample
    if isinstance(bundle.model, CopyingModel):
        return hmm_predictor.held_out_predictor(bundle.model, subset, k, threads=threads)
    from vcfbert.imputation.network_predictor import held_out_predictor_of_bundle

    return held_out_predictor_of_bundle(bundle, subset, k, batch_size=batch_size)
