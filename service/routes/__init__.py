"""One router a file; each only translates between HTTP and what the service does."""

from . import docs, haplotypes, health, impute, jobs, metrics, models, page, qc

ROUTERS = tuple(module.router for module in (health, models, metrics, impute, haplotypes, qc, jobs, docs, page))
