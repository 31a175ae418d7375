"""CherryPy: its tree as a WSGI application, without its own HTTP server, and with sessions that all workers know."""

import os

import cherrypy


class Shop:
    @cherrypy.expose
    def index(self):
        cherrypy.session["visits"] = cherrypy.session.get("visits", 0) + 1
        return f"{cherrypy.session['visits']} {os.getpid()}"


def create_app(session_class, **settings):
    # Without this, CherryPy would install handlers for signals and a reloader of its own.
    cherrypy.config.update({"environment": "embedded", "log.screen": False})
    sessions = {"tools.sessions.on": True, "tools.sessions.storage_class": session_class}
    cherrypy.tree.mount(Shop(), "/", {"/": {**sessions, **settings}})
    return cherrypy.tree


def in_files():
    return create_app(cherrypy.lib.sessions.FileSession, **{"tools.sessions.storage_path": os.environ["SESSIONS"]})


def in_memory():
    return create_app(cherrypy.lib.sessions.RamSession)
