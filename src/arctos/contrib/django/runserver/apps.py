"""The Django application that lets `manage.py runserver` serve with arctos."""

from django.apps import AppConfig


class ArctosRunserverConfig(AppConfig):
    """The label must not be taken for that of a command of the project."""

    name = "arctos.contrib.django.runserver"
    label = "arctos_runserver"
    verbose_name = "arctos runserver"
