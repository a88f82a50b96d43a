from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from vcfbert.errors import InputError
from vcfbert.tuning.storage import open_storage, patiently, shown_url


def test_unavailable_database_is_waited_for() -> None:
    answers = [OperationalError("select", {}, sqlite3.OperationalError("gone")), None]

    def call() -> str:
        if answers and (error := answers.pop(0)) is not None:
            raise error
        return "back"

    assert patiently(call, pause=0.01) == "back"
    with pytest.raises(OperationalError):
        patiently(lambda: failing(), patience=0.0)
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 / 0)


def failing() -> None:
    raise OperationalError("select", {}, sqlite3.OperationalError("gone"))


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////nonexistent/folder/studies.db", "postgresql://u:pw@127.0.0.1:1/x"]
)
def test_unusable_database_is_named_without_its_password(url: str) -> None:
    with pytest.raises(InputError) as caught:
        open_storage(url, heartbeat=1, retries=1)
    assert caught.value.code == "studies_unavailable"
    assert "pw" not in str(caught.value)
    assert shown_url("postgresql://u:pw@host/x") == "postgresql://u:***@host/x"
