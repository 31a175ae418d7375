"""The Django application that adds `manage.py runarctos`."""

from django.apps import AppConfig


class ArctosConfig(AppConfig):
    """The default label would be `django`."""

    name = "arctos.contrib.django"
    label = "arctos"
    verbose_name = "arctos"
