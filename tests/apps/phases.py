"""An application whose call, items and close() take as long as the query says, under the route and status that it names:
/work?call=20&item=20&close=20 (in ms), size=BYTES of the body, status=CODE, route=TEXT."""

import time
from urllib.parse import parse_qs


class Body:
    def __init__(self, item_s, close_s, size):
        self.item_s, self.close_s = item_s, close_s
        self.left = [b"x" * size, b"end"]

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        time.sleep(self.item_s)
        return self.left.pop(0)

    def close(self):
        time.sleep(self.close_s)


def app(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"], keep_blank_values=True).items()}
    call_s, item_s, close_s = (int(query.get(phase, 0)) / 1000 for phase in ("call", "item", "close"))
    if "route" in query:
        environ["arctos.route"] = query["route"]
    time.sleep(call_s)
    if "fail" in query:
        raise RuntimeError("as requested")
    start_response(f"{query.get('status', 200)} Told", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/whole":
        return [b"x" * int(query.get("size", 5))]
    return Body(item_s, close_s, int(query.get("size", 5)))
