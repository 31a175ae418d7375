"""A program that counts with prometheus_client before it serves with two workers."""

import sys

from prometheus_client import CollectorRegistry
from shop_metrics import Shop

import arctos
from arctos.metrics import prometheus

prometheus.install()
shop = Shop(CollectorRegistry())
shop.order("web", 3)


def app(environ, start_response):
    shop.order("web", 4)
    start_response("200 OK", [("Content-Length", "0")])
    return []


sys.exit(arctos.serve(app, bind="127.0.0.1:0", admin_bind="127.0.0.1:0", workers=2))
