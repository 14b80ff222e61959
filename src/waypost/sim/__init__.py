"""Whole clusters in one process, on virtual time, from one seed.

The nodes are the shipped code: members and their consensus cores, replicas and catalogs, in a part
of the runs the write-ahead log too.  Everything around them is made here: the network, the disks,
the clocks, the power, the operators and the clients, with every fault that they are to survive.
While a run goes on, each step is compared with what must always be true; then the faults stop, and
the cluster must come to rest.

Read ``plan`` first (what a seed decides), then ``world`` (how a run goes), then ``oracle`` (what is
compared).  The same seed gives the same run, to the last bit of its trace, on every machine.

After the simulators of FoundationDB and TigerBeetle, and the fuzzer of openraft.
"""
