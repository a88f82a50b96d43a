"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.models_manager import ModelsManager


def _manager(request: Request) -> ModelsManager:
    manager: ModelsManager = request.app.state.manager
    return manager


Manager = Annotated[ModelsManager, Depends(_manager)]
