"""HTTP routes, one router per file. A route only translates between HTTP and the service's other rooms."""

from . import docs, haplotypes, health, impute, jobs, metrics, models, page, qc

ROUTERS = tuple(module.router for module in (health, models, metrics, impute, haplotypes, qc, jobs, docs, page))
