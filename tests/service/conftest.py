"""One parser server for all apps of the tests: each would import cyvcf2 and pysam anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import service.app
import service.uploads.files
from service.settings import Settings
from vcfbert.genotypes.parsing.process import ParserServer


class SharedServer(ParserServer):
    """Outlives the apps that use it."""

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True, scope="session")
def shared_parsers() -> Iterator[None]:
    open_parsers, shared = service.app.open_parsers, {}

    def shared_parsers(settings: Settings) -> ParserServer:
        limits = service.uploads.files.parser_limits(settings)
        if limits not in shared:
            shared[limits] = SharedServer(limits)
        return shared[limits]

    service.app.open_parsers = shared_parsers
    yield
    service.app.open_parsers = open_parsers
    for server in shared.values():
        ParserServer.close(server)
