"""The laboratory of weft's system tests.

Everything a test needs around weftd - processes, network namespaces, virtual machines, peers - is made here, belongs
to one :class:`lab.proc.Lab` and is taken down by it in reverse order, also after Ctrl-C or SIGTERM.
"""
