//! GitHub as GitHub speaks: credentials, REST, scale sets and message sessions
