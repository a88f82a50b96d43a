"""vcfbert imputes genotypes from a phased reference panel.

>>> import vcfbert
>>> _ = vcfbert.fit_panel("panel.vcf.gz", "bundle", map="chr20.gmap.gz", parameters={"train.epochs": 1})
>>> imputed = vcfbert.impute_file("bundle", "array.vcf.gz", "imputed.vcf.gz")
>>> scores = vcfbert.evaluate_files("truth.vcf.gz", "imputed.vcf.gz", "panel.vcf.gz", typed="array.vcf.gz")
>>> print(scores.table())  # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
MAF bin...

The names below load on first use: ``import vcfbert`` loads neither torch nor MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vcfbert.api import evaluate_files, fit_panel, impute_file, load_bundle, read_panel
    from vcfbert.imputation.imputer import Imputer

__version__ = "0.2.0"

__all__ = ["Imputer", "__version__", "evaluate_files", "fit_panel", "impute_file", "load_bundle", "read_panel"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported by name, because both modules import this one for its version.
    home = "vcfbert.imputation.imputer" if name == "Imputer" else "vcfbert.api"
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
