"""Django with django-prometheus, in one module. Its metrics count in the server, unless SINGLE_PROCESS is set."""

import os

from arctos.metrics import prometheus

if "SINGLE_PROCESS" not in os.environ:
    prometheus.install()

import django  # noqa: E402
from django.conf import settings  # noqa: E402

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django_prometheus.db.backends.sqlite3", "NAME": ":memory:"}},
    CACHES={"default": {"BACKEND": "django_prometheus.cache.backends.locmem.LocMemCache"}},
)
django.setup()

from django.core.cache import cache  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import Http404, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402


def item(request, number):
    if number % 10 == 7:
        raise Http404
    cache.get("nothing")
    with connection.cursor() as cursor:
        cursor.execute("select %s", [number])
        return HttpResponse(str(cursor.fetchone()[0]))


def fail(request):
    raise RuntimeError("as it should")


urlpatterns = [path("items/<int:number>", item), path("fail", fail), path("", include("django_prometheus.urls"))]
app = get_wsgi_application()
