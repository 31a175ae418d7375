"""Django: `arctos.contrib.django.runserver` at the beginning of INSTALLED_APPS lets `manage.py runserver` serve with
arctos."""
