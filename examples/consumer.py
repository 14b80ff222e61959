"""A consumer: calls whichever provider answers fastest, and goes on whatever happens to them.

python examples/consumer.py 100
"""

import asyncio
import sys

import httpx2

import waypost


async def main(calls: int) -> None:
    """Call the service so many times, ten times a second."""
    async with waypost.connect() as registry, httpx2.AsyncClient() as http:
        hello = registry.service("hello")
        for _ in range(calls):
            try:
                async with hello.call() as instance:
                    response = await http.get(f"http://{instance.host}:{instance.port}/")
                print(f"{instance.id}: {response.text.strip()}", flush=True)
            except waypost.NoInstance as error:
                print(error, flush=True)
            except httpx2.HTTPError as error:
                print(f"{instance.id}: {error}; the next call goes elsewhere", flush=True)
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
