"""One address opens many connections to a port and holds them: `flood.py SOURCE ADDRESS PORT COUNT`.

Says how many are open and how many were refused, in one line of JSON, and holds them until its input ends.
"""

import asyncio
import json
import resource
import sys
from collections import Counter


async def main(source: str, address: str, port: int, count: int) -> None:
    held = []

    async def connect() -> str:
        try:
            held.append(await asyncio.wait_for(asyncio.open_connection(address, port, local_addr=(source, 0)), 10))
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return type(error).__name__
        return "open"

    said = Counter(await asyncio.gather(*(connect() for _ in range(count))))
    print(json.dumps(said), flush=True)
    await asyncio.to_thread(sys.stdin.read)


resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
