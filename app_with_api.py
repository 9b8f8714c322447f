"""What `dcp app` starts: the dashboard with headers for browsers and, on request, the prediction API at /api.

The command passes the API's settings as JSON; see `dcp_core/cli/app.py`.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from dcp_core.api.guard import DashboardHeaders
from dcp_core.api.keys import Keys
from dcp_core.api.watch import Watch


def api_of(settings: dict[str, Any]) -> Starlette:
    """The API that the command asked for."""
    from dcp_core.api import application
    from dcp_core.defenses import make_defense
    from dcp_core.models import zoo

    defense = make_defense(settings["defense"], **settings["parameters"])
    keys = Keys() if settings["keys"] else None
    return application(zoo.load(settings["victim"]), defense, keys=keys, watch=Watch(**settings["watch"]))


api = api_of(json.loads(sys.argv[1])) if len(sys.argv) > 1 else None


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """Start and stop the API with the dashboard: a server does not do this for mounted applications."""
    if api is None:
        yield
    else:
        async with api.router.lifespan_context(api):
            yield


app = st.App(
    Path(__file__).with_name("app.py"),
    lifespan=lifespan,
    routes=[Mount("/api", app=api)] if api is not None else [],
    middleware=[Middleware(DashboardHeaders)],
)
