"""Django: `arctos.contrib.django` in INSTALLED_APPS adds `manage.py runarctos`."""
