//! The client's address as a trusted proxy tells it: the PROXY protocol, versions 1 and 2.
