"""Calls a vcfbert service from Python. Small files are imputed at once, larger ones as jobs.

    client = Client("https://impute.example.org", key)
    job = client.submit(Path("array.vcf.gz"), region="20:1000000-2000000")
    client.wait(job["id"])
    client.download(job["id"], Path("imputed.vcf.gz"))

Jobs and reports are the JSON objects that the service's ``/docs`` describes.
"""

from vcfbert.client.client import Client, format_of
from vcfbert.client.failures import RefusedError

__all__ = ["Client", "RefusedError", "format_of"]
