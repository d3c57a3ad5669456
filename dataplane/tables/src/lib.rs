//! Lock-free forwarding tables and quiescent-state based publication
