"""A service of a user's, with a form of its own: ``own_server.py PORT [broken]``.

GET / says that it is ready; POST /classify takes {"inputs": [text]}, and nothing else.
"""

import asyncio
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def ready(_: Request) -> JSONResponse:
    return JSONResponse({"status": "up"})


async def classify(request: Request) -> JSONResponse:
    content = await request.json()
    await asyncio.sleep(0.002)
    if list(content) != ["inputs"] or "broken" in sys.argv:
        return JSONResponse({"error": "no such form"}, 500)
    return JSONResponse({"lengths": [len(text) for text in content["inputs"]]}, 201)


app = Starlette(routes=[Route("/", ready), Route("/classify", classify, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
