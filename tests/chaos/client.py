"""`python -m tests.chaos.client URL POSTS ACKNOWLEDGED`: the devices. Each posts its packets in
their order, again and again until it is told that they are taken, and then notes their ids.
"""

import asyncio
import sys
from pathlib import Path

from contract.settings import Settings
from ops.post import EdgeClient
from tests.chaos.log import read_posts

_PAUSE_S = 0.05


async def _post(client, packets, acknowledged):
    for packet in packets:
        taken = await client.post(packet)
        assert taken == len(packet["readings"])
        acknowledged.write(packet["packet_id"] + "\n")
        acknowledged.flush()
        await asyncio.sleep(_PAUSE_S)


async def main(url, posts, acknowledged):
    with Path(acknowledged).open("a") as file:
        async with EdgeClient(url, Settings()) as client:
            await client.wait_ready()
            devices = read_posts(Path(posts))
            await asyncio.gather(*(_post(client, packets, file) for packets in devices))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
