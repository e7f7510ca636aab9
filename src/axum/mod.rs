//! What axum's handlers ask for, and a stack as the listener of `axum::serve`.
