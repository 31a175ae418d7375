"""SQLAlchemy with --preload: workers must not inherit the connections of the zygote.

A connection that two processes use mixes up their queries and answers.
"""

import os

from sqlalchemy import create_engine, event, text

engine = create_engine(os.environ.get("SHOP_DATABASE", "sqlite://"))


@event.listens_for(engine, "connect")
def remember(connection, record):
    record.info["opened_by"] = os.getpid()  # so that the test sees it


with engine.connect() as connection:  # at import time, so with --preload in the zygote
    connection.execute(text("CREATE TABLE IF NOT EXISTS orders (tea TEXT)"))


def app(environ, start_response):
    with engine.connect() as connection:
        opened_by = connection.info["opened_by"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {opened_by}".encode()]


def forget_connections(worker):
    """For --post-fork. close=False leaves the connections open, because they belong to the zygote."""
    engine.dispose(close=False)
