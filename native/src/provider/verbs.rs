//! libibverbs and librdmacm.
