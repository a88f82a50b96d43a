"""Time limits of a PostgreSQL that accepts connections and does not answer, such as a stopped one.

The server's own limits do not hold then, so they are this side's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from functools import cache
from typing import Any

from sqlalchemy import Engine, event


def with_time_limit(engine: Engine, seconds: float) -> Engine:
    """Changes ``engine``: connecting and every statement raise OperationalError after ``seconds`` without an answer."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        # libpq takes whole seconds, and a single one for two.
        limited = {"connect_timeout": max(math.ceil(seconds), 2), **options}
        connection = _connection_class().connect(*arguments, **limited)
        connection.seconds = seconds
        return connection

    return engine


@cache
def _connection_class() -> Any:
    import psycopg  # of the extra `postgres`

    class LimitedConnection(psycopg.Connection[Any]):
        seconds = math.inf

        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            """Closes the connection if the server does not answer in time: it may still answer the old statement."""
            try:
                return super().wait(_limited(gen, self.seconds), *args, **options)
            except TimeoutError:
                self.pgconn.finish()
                text = f"no answer within {self.seconds:g} seconds"
                raise psycopg.OperationalError(text) from None

    return LimitedConnection


def _limited(steps: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """The same steps. Raises TimeoutError if the socket is not ready ``seconds`` after the first one.

    psycopg resumes the generator several times a second with 0, as long as the socket is not ready.
    """
    end = time.monotonic() + seconds
    try:
        waits_for = next(steps)
        while True:
            ready = yield waits_for
            if not ready and time.monotonic() > end:
                raise TimeoutError
            waits_for = steps.send(ready)
    except StopIteration as ended:
        return ended.value
