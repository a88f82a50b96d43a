"""What the service is told by its environment: ``VCFBERT_MODEL``, ``VCFBERT_DEVICE`` and so on."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="VCFBERT_", extra="ignore")

    model: str = "models:/vcfbert@champion"  # a registered model or a bundle's folder
    device: str = "cpu"  # cpu, cuda or cuda:N
    batch_size: int = Field(default=64, ge=1)  # diploid samples a forward pass
    threads: int = Field(default=2, ge=1)  # that compress the output
    max_upload_mb: int = Field(default=200, ge=1)  # of 10^6 bytes; a larger request is refused as it arrives

    @property
    def max_upload_bytes(self) -> int:
        return self.max_upload_mb * 1_000_000
