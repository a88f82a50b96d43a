"""The script by which MLflow loads a logged bundle. It is a model from code, so nothing is pickled."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pandas as pd  # type: ignore[import-untyped,unused-ignore]
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class BundleModel(PythonModel):
    """Imputes files. Each input row has the path of a target VCF (``target``) and of the output (``output``)."""

    def load_context(self, context: PythonModelContext) -> None:
        # MLflow also runs this script when it logs the model, so torch is imported only here.
        from vcfbert.bundle.load import load_bundle
        from vcfbert.imputation.imputer import Imputer

        self._imputer = Imputer(load_bundle(Path(context.artifacts["bundle"]), only_imputes=True))

    # No type hints: MLflow would use them as the input schema, instead of the logged signature.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        from vcfbert.imputation.files import impute_file

        rows = pd.DataFrame(model_input)
        for row in rows.itertuples():
            impute_file(self._imputer, Path(row.target), Path(row.output))
        return rows[["output"]]


mlflow.models.set_model(BundleModel())
