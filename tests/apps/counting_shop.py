"""An application that counts with prometheus_client, and does what the path of a request says:

    /order/CHANNEL/SECONDS   counts an order that took SECONDS
    /stock/ITEM/NUMBER       sets the stock of ITEM
    /forget/ITEM             removes the labels of ITEM
    /fork/CHANNEL            counts an order in a child process
    /mine                    is prometheus_client's page of this worker
    /all                     is its page in the multiprocess mode

Environment: SHOP_LATE=1 installs arctos.metrics.prometheus after the metrics are defined and have values.
"""

import os

from prometheus_client import CollectorRegistry, generate_latest
from shop_metrics import Shop


def install():
    from arctos.metrics import prometheus

    prometheus.install()


if "SHOP_LATE" not in os.environ:
    install()
shop = Shop(CollectorRegistry())
if "SHOP_LATE" in os.environ:
    install()


def app(environ, start_response):
    verb, *words = environ["PATH_INFO"].encode("latin-1").decode().strip("/").split("/")
    body = str(os.getpid()).encode()
    match verb, *words:
        case "order", channel, seconds:
            shop.order(channel, float(seconds))
        case "stock", item, number:
            shop.stock.labels(item).set(float(number))
        case "forget", item:
            shop.stock.remove(item)
        case "fork", channel:
            child = os.fork()
            if child == 0:
                shop.orders.labels(channel).inc()
                os._exit(0)
            os.waitpid(child, 0)
        case ("mine",):
            body = generate_latest(shop.registry)
        case ("all",):
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            MultiProcessCollector(registry)
            body = generate_latest(registry)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
