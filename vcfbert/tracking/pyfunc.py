"""The script that MLflow runs to load a logged bundle (models-from-code: source text, no pickle)."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pandas as pd  # type: ignore[import-untyped,unused-ignore]
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class BundleModel(PythonModel):
    """Imputes files: a row names a target VCF (``target``) and where to write the imputed one (``output``)."""

    def load_context(self, context: PythonModelContext) -> None:
        # MLflow runs this script when it logs the model too: torch is imported only where the model is used.
        from vcfbert.bundle import load_bundle
        from vcfbert.imputation.imputer import Imputer

        self._imputer = Imputer(load_bundle(Path(context.artifacts["bundle"])))

    # Without type hints: MLflow would take them for the schema of the input, which the logged signature gives.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        from vcfbert.imputation.files import impute_file

        rows = pd.DataFrame(model_input)
        for row in rows.itertuples():
            impute_file(self._imputer, Path(row.target), Path(row.output))
        return rows[["output"]]


mlflow.models.set_model(BundleModel())
