//! Configuration, validation, the API, weftd and weftctl
