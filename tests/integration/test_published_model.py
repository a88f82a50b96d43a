"""A real bundle through the registry: the same VCF from the library, MLflow's model and the service."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import httpx
import mlflow
import pytest
import torch

from service.app import create_app
from service.settings import Settings
from vcfbert.bundle.contents import save_copying_model
from vcfbert.bundle.load import load_bundle
from vcfbert.bundle.network import save_network
from vcfbert.config import load
from vcfbert.copying.mixture import CopyingModel
from vcfbert.genotypes.conversion import build_panels
from vcfbert.imputation.files import impute_file
from vcfbert.imputation.imputer import Imputer
from vcfbert.model.variants import create
from vcfbert.tracking.model_cache import resolve
from vcfbert.tracking.promotion import Candidate, publish

PROJECT = Path(__file__).parents[2]
DEMO = PROJECT / "data" / "demo"
TARGET = DEMO / "target_array_phased.vcf.gz"


@pytest.mark.parametrize("variant", ["v18", "v19"])
def test_library_registry_and_service_give_equal_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    config = load(PROJECT / "params.yaml")
    panels = build_panels(
        [DEMO / "panel.vcf.gz"],
        tmp_path / "panel",
        maps=[DEMO / "chr20.b37.gmap.gz"],
        region="20:1000000-1060000",
        holdout=0.1,
        seed=1,
    )
    torch.manual_seed(0)
    bundle = tmp_path / "models" / variant
    if variant == "v19":
        save_copying_model(bundle, CopyingModel.first(), panels, config, metrics={}, data={})
    else:
        save_network(bundle, create(variant, config.model), panels, config, metrics={}, data={})
    gate = {"name": "vcfbert", "alias": "champion", "metric": "r2", "minimum": 0.5}
    publish({variant: Candidate(bundle, {"r2": 0.9})}, root=tmp_path, **gate)

    by_library, by_model = tmp_path / "library.vcf.gz", tmp_path / "model.vcf.gz"
    downloaded = resolve("models:/vcfbert@champion", root=tmp_path, cache=tmp_path / "cache")
    report = impute_file(Imputer(load_bundle(downloaded, only_imputes=True)), TARGET, by_library).report
    model = mlflow.pyfunc.load_model("models:/vcfbert@champion")
    answer = model.predict({"target": str(TARGET), "output": str(by_model)})
    by_service = asyncio.run(imputed_by_service(Settings(model=str(downloaded))))

    expected = gzip.decompress(by_library.read_bytes())
    assert report.n_used >= 5
    assert sum(not line.startswith(b"#") for line in expected.splitlines()) == panels[0].n_sites
    assert list(answer["output"]) == [str(by_model)]
    assert gzip.decompress(by_model.read_bytes()) == expected
    assert gzip.decompress(by_service) == expected


async def imputed_by_service(settings: Settings) -> bytes:
    app = create_app(settings)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60)
    async with app.router.lifespan_context(app), client:
        while (await client.get("/readyz")).json().get("detail") == "the model is being loaded":
            await asyncio.sleep(0.05)
        response = await client.post("/v1/impute", files={"file": (TARGET.name, TARGET.read_bytes())})
    assert response.status_code == 200, response.text
    return response.content
