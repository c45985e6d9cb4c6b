"""`python -m tests.chaos.client URL POSTS ACKNOWLEDGED PAUSE`: the devices. Each posts its packets
in order, each until it is accepted. Then its id is written to a file.
"""

import asyncio
import sys
from pathlib import Path

from contract.settings import Settings
from ops.post import EdgeClient
from runtime.log import configure_log
from tests.chaos.log import read_posts

_START_S = 120.0


async def _post(client, packets, acknowledged, pause_s):
    for packet in packets:
        taken = await client.post(packet)
        assert taken == len(packet["readings"])
        acknowledged.write(packet["packet_id"] + "\n")
        acknowledged.flush()
        await asyncio.sleep(pause_s)


async def main(url, posts, acknowledged, pause):
    with Path(acknowledged).open("a") as file:
        async with EdgeClient(url, Settings()) as client:
            await client.wait_ready(_START_S)
            devices = read_posts(Path(posts))
            pause_s = float(pause)
            await asyncio.gather(*(_post(client, packets, file, pause_s) for packets in devices))


if __name__ == "__main__":
    configure_log()  # to the log: its output is not read, and a full pipe would block it
    asyncio.run(main(*sys.argv[1:]))
