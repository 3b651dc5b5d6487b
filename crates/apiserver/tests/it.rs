//! The server as its clients see it: over HTTP, and through `kubectl` where it is installed.

mod it {
    mod collection;
    mod crds;
    mod http;
    mod kubectl;
    mod lifecycle;
    mod nodes;
    mod objects;
    mod server;
    mod tokens;
    mod watches;
}
