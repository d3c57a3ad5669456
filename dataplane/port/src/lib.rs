//! Ports: EAL, mbufs, NICs and vhost-user, the only users of the FFI
