"""Where bytes rest: the contract of a store, the local POSIX store, and the stores of a site."""
