#!/usr/bin/env bash
# Builds the wheel, installs it in a fresh environment, and uses it in an empty folder: help, fit, impute and the service.
# FAISS, as for `make`: faiss-cpu (the default) or faiss-gpu. PORT: where the service listens, 18473 unless set.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
port=${PORT:-18473}
work=$(mktemp -d)
service=
finish() {
  if [ -n "$service" ]; then kill "$service" 2>/dev/null || true; wait "$service" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT
say() { echo "wheel: $*"; }

make -s -C "$root" wheel PYTHON="$python"
wheel=$(ls "$root"/dist/*.whl)
say "$(basename "$wheel")"
# Nothing of the checkout may be importable, by this variable neither.
unset PYTHONPATH
"$python" -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check -c "$root/constraints.txt" \
  "$wheel[${FAISS:-faiss-cpu},service]"
mkdir "$work/empty"
cd "$work/empty"
export PATH="$work/env/bin:$PATH"

say "packages"
python - <<'PYTHON'
from importlib.metadata import files, version
from importlib.util import find_spec

names = {str(file) for file in files("vcfbert") or ()}
tops = {name.split("/")[0] for name in names if name.endswith(".py")}
assert tops == {"vcfbert", "vcfbert_service"}, tops
assert find_spec("service") is None and find_spec("pipelines") is None
needed = {"vcfbert/py.typed", "vcfbert/kernels/generic.abi3.so", "vcfbert/profiles/cpu.yaml", "vcfbert_service/web/index.html"}
assert needed <= names, needed - names
assert version("torch").split("+")[0] == "2.13.0", version("torch")
PYTHON

say "help"
vcfbert --help >/dev/null
vcfbert --version

say "fit"
cp "$root"/data/demo/{panel.vcf.gz,panel.vcf.gz.tbi,target_array.vcf.gz,target_array.vcf.gz.tbi,chr20.b37.gmap.gz} .
vcfbert fit --panel panel.vcf.gz --map chr20.b37.gmap.gz --region 20:1000000-1100000 --out bundle --no-track \
  -S train.epochs=1 -S train.samples_per_epoch=8 -S model.dims=8 -S model.layers=1 -S model.heads=2 \
  -S encode.window=64 -S encode.flank=8 -S 'retrieval.k={v17: 2, v18: 8, v19: 12}' >/dev/null

say "impute"
vcfbert impute --model bundle --target target_array.vcf.gz --region 20:1000000-1100000 --out imputed.vcf.gz \
  --device cpu --mode fast >/dev/null
python - <<'PYTHON'
import gzip

with gzip.open("imputed.vcf.gz", "rt") as lines:
    records = [line for line in lines if not line.startswith("#")]
assert len(records) > 100 and "DS" in records[0].split("\t")[8], len(records)
PYTHON

say "service"
serve=(python -m vcfbert_service)
if vcfbert serve --help >/dev/null 2>&1; then serve=(vcfbert serve); fi
VCFBERT_MODEL="$PWD/bundle" VCFBERT_DATA="$PWD/data" VCFBERT_PORT=$port "${serve[@]}" >service.log 2>&1 &
service=$!
python - "$port" <<'PYTHON' || { cat service.log; exit 1; }
import json
import sys
import time
import urllib.error
import urllib.request

url = f"http://127.0.0.1:{sys.argv[1]}/v1/models"
for _ in range(120):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            models = json.load(answer)
        if models["models"]:  # empty while the model loads
            break
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        pass
    time.sleep(1)
else:
    sys.exit(f"{url} names no model")
print(json.dumps(models)[:300])
assert "v19" in json.dumps(models), models
PYTHON
say "all checks passed"
