//! Raw bindings to DPDK, made by bindgen against the installed headers
