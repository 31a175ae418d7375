"""The Django application that lets `manage.py runserver` serve with arctos."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.management import get_commands


class ArctosRunserverConfig(AppConfig):
    """The label must not be taken for that of a command of the project."""

    name = "arctos.contrib.django.runserver"
    label = "arctos_runserver"
    verbose_name = "arctos runserver"

    def ready(self) -> None:
        """Registers the check of the order in INSTALLED_APPS."""
        checks.register(check_order)


def check_order(**_: Any) -> list[checks.Warning]:
    """Warns if another application's `runserver` takes precedence: that of the first one in INSTALLED_APPS does."""
    owner = get_commands().get("runserver")
    if owner == ArctosRunserverConfig.name:
        return []
    return [
        checks.Warning(
            f"manage.py runserver does not serve with arctos: the command of {owner} takes precedence.",
            hint=f"Move {ArctosRunserverConfig.name!r} above {owner!r} in INSTALLED_APPS.",
            id="arctos.W001",
        )
    ]
