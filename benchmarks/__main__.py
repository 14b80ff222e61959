"""``python -m benchmarks [NAME …]``: run all benchmarks, or those named.

etcd    the same work here and on etcd, side by side (needs etcd, wrk: Debian etcd-server, wrk)
cluster the same work on three nodes of ours and of etcd (needs them too)
failover how long nobody is answered when the leader of three is killed; beside etcd
crash   from the SIGKILL of a provider to a consumer's view without it; a change to a thousand
        watchers; a hundred SIGKILLs of the registry under load
dns     queries a second by dnsperf, and how many are lost (needs it: Debian dnsperf)
scale   a million instances on one node
checks  10,000 health checks on one node: what they cost, and how soon a failure is known
doors   what others speak to us: answers a second, and what thousands who wait take
micro   the policies, the catalog and the log, each alone
"""

import importlib
import sys
import time

NAMES = ("etcd", "cluster", "failover", "crash", "dns", "doors", "scale", "checks", "micro")


def main() -> int:
    asked = sys.argv[1:] or NAMES
    for name in asked:
        if name not in NAMES:
            print(f"no benchmark {name!r}: choose from {', '.join(NAMES)}", file=sys.stderr)
            return 64
    for name in asked:
        begun = time.perf_counter()
        print(f"\n== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
        print(f"   ({time.perf_counter() - begun:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
