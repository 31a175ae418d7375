"""Dash: the Flask application of a dashboard, with its import shared by all workers."""

import dash

dashboard = dash.Dash(__name__)
dashboard.layout = dash.html.Div([dash.dcc.Input(id="name", value="tea"), dash.html.Div(id="greeting")])


@dashboard.callback(dash.Output("greeting", "children"), dash.Input("name", "value"))
def greet(name):
    return f"Hello {name}"


app = dashboard.server
