//! Addresses, header parsing and encapsulation templates; no DPDK, no unsafe
