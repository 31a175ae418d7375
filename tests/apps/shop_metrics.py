"""Metrics of prometheus_client, of each kind."""

from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary


class Shop:
    """The metrics of a shop, of each kind."""

    def __init__(self, registry):
        self.registry = registry
        self.imports = Counter("shop_imports", "Counted while the module is imported", registry=registry)
        self.imports.inc()
        self.orders = Counter("shop_orders", 'Orders, in "units"\nper \\ channel', ["channel"], registry=registry)
        self.seconds = Histogram("shop_order_seconds", "Duration of an order", ["channel"], registry=registry)
        self.sizes = Summary("shop_order_size", "Size of an order", registry=registry)
        self.open = Gauge("shop_open_orders", "Open orders", registry=registry, multiprocess_mode="sum")
        self.longest = Gauge("shop_longest_seconds", "Longest order", registry=registry, multiprocess_mode="max")
        self.stock = Gauge("shop_stock", "Stock", ["item"], registry=registry, multiprocess_mode="mostrecent")
        self.build = Info("shop_build", "Version", registry=registry)
        self.build.info({"version": "1", "name": 'a "shop"'})
        self.state = Enum("shop_state", "State", states=["new", "used"], registry=registry)

    def order(self, channel, seconds):
        """Counts an order."""
        self.orders.labels(channel).inc()
        self.seconds.labels(channel=channel).observe(seconds, exemplar={"trace": "1"})
        self.sizes.observe(-2 * seconds)
        self.open.inc(seconds)
        self.longest.set(max(seconds, self.longest._value.get()))
        self.state.state("used")
