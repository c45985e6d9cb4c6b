"""How a service reports to its server why it cannot start."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import IotError


async def run_lifespan(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the lifespan of `app`.

    An error of ours is reported in one line instead of the framework's traceback, and stored in the
    lifespan's state as `failed`.
    """
    failed: list[Message] = []

    async def send_in_time(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            failed.append(message)
        else:
            await send(message)

    try:
        await app(scope, receive, send_in_time)
    except Exception as error:
        if not isinstance(error, IotError):
            for message in failed:
                await send(message)
            raise
        scope.get("state", {})["failed"] = error
        await send({"type": "lifespan.startup.failed", "message": str(error)})
