"""A gRPC client in Python, as anybody would write it: nothing here knows of Waypost.

Reads how many calls to make, a line at a time, and writes who answered each.
"""

import json
import sys

import grpc


def main() -> None:
    with grpc.insecure_channel(sys.argv[1]) as channel:
        who = channel.unary_unary("/test.Echo/Who")
        for line in sys.stdin:
            heard: dict[str, int] = {}
            for _ in range(int(line)):
                try:
                    answer = who(b"", timeout=5).decode()
                except grpc.RpcError as error:
                    answer = f"{error.code().name}: {error.details()}"
                heard[answer] = heard.get(answer, 0) + 1
            print(json.dumps(heard), flush=True)


if __name__ == "__main__":
    main()
