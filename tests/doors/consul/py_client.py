"""A program of py-consul's or python-consul2's users; run by the Python that has one of them.

py_client.py HOST:PORT watch SERVICE    follows a service; tells its passing ids, a line each
py_client.py HOST:PORT do               does what each line says: [method, arguments, keywords]
"""

import functools
import json
import sys
import time

import consul


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    client = consul.Consul(host=host, port=int(port))
    if sys.argv[2] == "watch":
        watch(client, sys.argv[3])
    for line in sys.stdin:
        method, arguments, keywords = json.loads(line)
        keywords = {
            name: getattr(consul.Check, value["check"])(*value["with"])
            if isinstance(value, dict) and "check" in value
            else value
            for name, value in keywords.items()
        }
        try:
            answer = functools.reduce(getattr, method.split("."), client)(*arguments, **keywords)
        except consul.ConsulException as error:
            answer = {"error": type(error).__name__}
        print(json.dumps(answer), flush=True)


def watch(client: consul.Consul, service: str) -> None:
    index = None
    while True:
        try:
            index, found = client.health.service(service, index=index, passing=True, wait="20s")
        except Exception as error:
            print(repr(error), file=sys.stderr, flush=True)
            index = None
            time.sleep(0.1)
        else:
            print(json.dumps(sorted(each["Service"]["ID"] for each in found)), flush=True)


main()
