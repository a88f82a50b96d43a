# Three images from one file:
#   docker build --target train -t vcfbert-train .    the pipeline (DVC, MLflow client)
#   docker build --target serve -t vcfbert-serve .    the HTTP service
#   docker build --target mlflow -t vcfbert-mlflow .  the MLflow server, for compose.yaml
# The images have torch with CUDA. With this argument they have torch for CPUs and are some gigabytes smaller:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=$TORCH_CPU_INDEX --target serve -t vcfbert-serve .
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    MLFLOW_DISABLE_TELEMETRY=true DVC_NO_ANALYTICS=1
RUN useradd --create-home --uid 1000 vcfbert
WORKDIR /app
# Pins are installed first, so that this large layer is rebuilt only when a pin changes.
COPY constraints.txt ./
ARG PIP_EXTRA_INDEX_URL
RUN pip install -r constraints.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY vcfbert ./vcfbert
# The compiler goes with the layer that brought it.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && python setup.py --quiet build_ext --inplace \
    && apt-get purge -y --auto-remove gcc libc6-dev && rm -rf build /var/lib/apt/lists/*

FROM base AS train
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
COPY pipelines ./pipelines
RUN pip install --no-deps --editable .
COPY dvc.yaml params.yaml ./
COPY data/demo ./data/demo
# DVC and MLflow write beside the code.
RUN dvc init --quiet --no-scm && chown -R vcfbert /app
USER vcfbert
CMD ["dvc", "repro"]

FROM base AS mlflow
# Not in constraints.txt: only this server uses the object store.
RUN pip install --constraint constraints.txt boto3==1.44.8
USER vcfbert
EXPOSE 5000
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]

FROM base AS serve
# All files are written to one data volume: jobs, downloaded models and temporary files. The root
# file system may be read-only. The code belongs to root.
ENV VCFBERT_HOST=0.0.0.0 VCFBERT_PORT=8000 VCFBERT_DATA=/data/service VCFBERT_CACHE=/data/models \
    HOME=/data TMPDIR=/data/tmp PYTHONDONTWRITEBYTECODE=1
COPY service ./service
# Nothing writes bytecode later, so each start would compile the code.
RUN pip install --no-deps --editable . && python -m compileall -q vcfbert service && mkdir -p /data/tmp \
    && chown -R vcfbert /data
USER vcfbert
VOLUME /data
EXPOSE 8000
# /healthz says whether the process answers. /readyz says whether it has a model; the proxy asks that one.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['VCFBERT_PORT'] + '/healthz', timeout=2)"]
CMD ["python", "-m", "service"]
