//! What tonic's handlers ask for, and a stack as the source of `serve_with_incoming`.
