"""A program with py-eureka-client: it registers, discovers, and does what its standard input says.

Arguments: the servers, its application, its instance id, its port.  Each line of input is answered
with one line of JSON.
"""

import asyncio
import json
import os
import sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # the client logs on the standard output

from py_eureka_client.eureka_client import EurekaClient  # noqa: E402


async def main() -> None:
    servers, app, instance_id, port = sys.argv[1:]
    client = EurekaClient(
        eureka_server=servers,
        app_name=app,
        instance_id=instance_id,
        instance_ip="127.0.0.1",
        instance_host="localhost",
        instance_port=int(port),
        renewal_interval_in_secs=1,
        duration_in_secs=4,
        metadata={"team": "checkout"},
    )
    await client.start()
    for line in sys.stdin:
        match line.split():
            case ["see", name]:
                found = client.applications.get_application(name).instances
                answer: object = {one.instanceId: one.status for one in found}
            case ["status", status]:
                answer = await client.status_update(status)
            case ["no-status"]:
                answer = await client.delete_status_override()
            case ["call", name]:
                answer = await client.do_service(name, "/metrics")
            case _:
                await client.stop()
                return
        print(json.dumps(answer), file=answers, flush=True)


asyncio.run(main())
