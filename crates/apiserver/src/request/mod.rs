//! What a request asks for, read from its method, path, query and headers.

pub(crate) mod negotiate;
pub(crate) mod query;
pub(crate) mod route;
pub(crate) mod selector;
