"""weftd with a NIC bound to vfio-pci, in a virtual machine that has one."""
