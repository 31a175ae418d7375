"""New Relic: transactions of the requests of every worker."""

import newrelic.agent
from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    transaction = newrelic.agent.current_transaction()
    return transaction.name if transaction else "no transaction"
