//! Stacks of layers under a hyper client.
