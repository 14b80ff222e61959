"""A program with py-eureka-client: it registers, discovers, and does what its standard input says.

Arguments: the servers, its application, its instance id, its port.  Each line of input is answered
with one line of JSON.
"""

import asyncio
import json
import os
import sys
import threading
import time

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # the client logs on the standard output

from py_eureka_client.eureka_client import EurekaClient  # noqa: E402


def after_a_heartbeat() -> None:
    """Return when the client has just sent one.

    They come from a thread with an event loop of its own, and share an ``asyncio.Lock`` with what
    is asked here: what is asked meanwhile may wait for ever, and so may the heartbeats.
    """
    (thread,) = (each for each in threading.enumerate() if each.name == "HeartbeatThread")

    def is_at_rest() -> bool:
        frame = sys._current_frames()[thread.ident or 0]
        return frame.f_code.co_name == "__heartbeat_thread"

    while is_at_rest():
        time.sleep(0.005)
    while not is_at_rest():
        time.sleep(0.005)


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
                after_a_heartbeat()
                answer = await client.status_update(status)
            case ["no-status"]:
                after_a_heartbeat()
                answer = await client.delete_status_override()
            case ["call", name]:
                answer = await client.do_service(name, "/metrics")
            case _:
                after_a_heartbeat()
                await client.stop()
                return
        print(json.dumps(answer), file=answers, flush=True)


asyncio.run(main())
